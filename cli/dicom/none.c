/* In the place of the other files here, in a build without DICOM. */
#include "cli/commands.h"
#include "cli/options.h"

static int refuse(const char *name)
{
    const su_command command = {.name = name};
    su_error err = {0};
    su_fail(&err, SU_EUNSUPPORTED, "this build reads no DICOM: it was made with -DSUTURE_DICOM=OFF");
    return su_cli_fail(&command, &err);
}

int su_cmd_dicom_render(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return refuse("dicom render");
}

int su_cmd_dicom_volume(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return refuse("dicom volume");
}
