// What Go calls of the C side. One TPM a process: the state of libtpms is global.
#ifndef KEEL_VTPM_GLUE_H
#define KEEL_VTPM_GLUE_H

#include <stdint.h>

#include <libtpms/tpm_types.h>

// keel_prepare readies libcrypto and the allocator; call it once, before a sandbox
// takes the file system away.
int keel_prepare(void);

// keel_start is power-on (_TPM_Init), with state or, where len is 0, without.
TPM_RESULT keel_start(const uint8_t *perm, uint32_t perm_len, const uint8_t *vol, uint32_t vol_len);

// keel_stop is power-off.
void keel_stop(void);

// keel_process runs a command and copies the response. *len holds the size of out,
// then the size of the response.
TPM_RESULT keel_process(uint8_t locality, uint8_t *cmd, uint32_t cmd_len, uint8_t *out, uint32_t *len);

// Why keel_serve returned.
enum {
	KEEL_END,    // the peer closed its end
	KEEL_STATES, // a command was run whose answer has to carry states
	KEEL_FAILED, // the TPM does not run a command: why is in code
	KEEL_FRAME,  // the peer sent something else than whole commands
	KEEL_SOCKET, // reading or writing failed: errno is in code
};

// The command that keel_serve leaves to its caller.
struct keel_rest {
	uint64_t seq;
	uint32_t len; // of the response
	uint32_t code;
};

// keel_serve reads commands from a socket and answers them, as long as responses are all
// that is wanted. The last response is copied to out, which has room for the largest.
int keel_serve(int fd, uint8_t *out, struct keel_rest *rest);

// keel_cancel cancels the command of that number, now or once it comes, and returns
// whether it runs. The engine forgets cancels that come before it looks at the command.
int keel_cancel(uint64_t seq);

// keel_stored returns the size of what the TPM stored since it was last copied, 0 when
// nothing, and copies it where out has room.
uint32_t keel_stored(uint8_t *out, uint32_t len);

// keel_volatile copies the volatile state. *len holds the size of out, then of the state.
TPM_RESULT keel_volatile(uint8_t *out, uint32_t *len);

#endif
