/* System calls that a decoder needs, and no others: a small filter for the kernel's seccomp, without a
 * library. */
#ifndef SU_DICOM_DECODER_SANDBOX_H
#define SU_DICOM_DECODER_SANDBOX_H

/* From here on this process can reach nothing but the descriptors that it has and those that it is sent: what
 * else it asks for fails with EPERM. Returns "", or what is in the way (the kernel, the machine, a sanitizer,
 * which needs more). */
const char *su_sandbox(void);

#endif
