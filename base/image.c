#include "base/image.h"
#include "base/memory.h"

void su_image_free(su_image *image)
{
    if (!image) return;
    su_free(image->pixels);
    *image = (su_image){0};
}
