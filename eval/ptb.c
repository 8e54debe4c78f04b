#include "eval/ptb.h"

su_status su_ptb_line(const char *text, size_t length, su_buffer *out, su_error *err)
{
    (void)text, (void)length, (void)out;
    return su_fail(err, SU_EUNSUPPORTED, "the PTB tokenizer is not there yet");
}
