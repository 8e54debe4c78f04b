/* In the place of the other files here, in a build without DICOM. */
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include <stdio.h>

static int refuse(const char *name)
{
    const su_command command = {.name = name};
    su_error err = {0};
    su_fail(&err, SU_EUNSUPPORTED, "this build reads no DICOM: it was made with -DSUTURE_DICOM=OFF");
    return su_cli_fail(&command, &err);
}

int su_cmd_dicom_info(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return refuse("dicom info");
}

int su_cmd_dicom_decode(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return refuse("dicom decode");
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

bool su_cli_dicom_state(char *text, size_t size)
{
    snprintf(text, size, "not in this build (SUTURE_DICOM=OFF)");
    return true;
}
