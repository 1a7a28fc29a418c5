// The worker's loop. It is here because a wait in Go costs a command a tenth of its time:
// Go's scheduler watches it.
#include "glue.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>

// Frames: see package vtpm/wire, whose numbers are little-endian, as this processor's are.
struct header {
	uint32_t magic;
	uint8_t kind, arg, effect, zero;
	uint64_t seq;
	uint32_t body, permanent, volatile_state, end;
};
_Static_assert(sizeof(struct header) == 32, "a header of 32 bytes");

#define MAGIC ('K' | 'T' << 8 | 'P' << 16 | 3 << 24)
#define MAX_BODY 3968
enum { EXECUTE = 2, DONE = 4 };
#define MAX_LOCALITY 4
enum { CHANGES, REPEATS, KEEPS };

#define GO_ON (-1) // no reason to return

struct frame {
	struct header h;
	uint8_t body[MAX_BODY];
};

static struct frame in, out;

// A response with TPM_RC_CANCELED.
static const uint8_t canceled[] = { 0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x09 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t running;   // number of the command that runs, 0 when none does
static uint64_t cancelled; // the highest that was cancelled

static int failed(struct keel_rest *rest)
{
	rest->code = errno;
	return KEEL_SOCKET;
}

// fill reads until the frame holds n bytes. It returns 0 at the end of the stream.
static ssize_t fill(int fd, size_t *have, size_t n)
{
	while (*have < n) {
		ssize_t got = read(fd, (uint8_t *)&in + *have, sizeof(in) - *have);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got;
		*have += got;
	}
	return 1;
}

// command reads a frame. One that is no command, is cut off, or has another behind it,
// though that waits for an answer, is not for this loop.
static int command(int fd, struct keel_rest *rest)
{
	size_t have = 0;
	ssize_t n = fill(fd, &have, sizeof(in.h));

	if (n > 0 && (in.h.magic != MAGIC || in.h.kind != EXECUTE || in.h.arg > MAX_LOCALITY || in.h.effect > KEEPS || in.h.zero != 0 ||
		      in.h.body == 0 || in.h.body > MAX_BODY || in.h.permanent != 0 || in.h.volatile_state != 0 || in.h.end != 0))
		return KEEL_FRAME;
	if (n > 0)
		n = fill(fd, &have, sizeof(in.h) + in.h.body);
	if (n < 0)
		return failed(rest);
	if (n == 0)
		return have == 0 ? KEEL_END : KEEL_FRAME;
	return have == sizeof(in.h) + in.h.body ? GO_ON : KEEL_FRAME;
}

// begin notes that a command runs. It returns 0 where it was cancelled already.
static int begin(uint64_t seq)
{
	int ok;

	pthread_mutex_lock(&lock);
	ok = cancelled != seq;
	if (ok)
		running = seq;
	pthread_mutex_unlock(&lock);
	return ok;
}

static void end(void)
{
	pthread_mutex_lock(&lock);
	running = 0;
	pthread_mutex_unlock(&lock);
}

int keel_cancel(uint64_t seq)
{
	int runs;

	pthread_mutex_lock(&lock);
	if (seq > cancelled)
		cancelled = seq;
	runs = running == seq;
	if (runs)
		TPMLIB_CancelCommand();
	pthread_mutex_unlock(&lock);
	return runs;
}

// answer sends the response of len bytes that is in out.
static int answer(int fd, uint64_t seq, uint32_t len, struct keel_rest *rest)
{
	size_t done = 0, size = sizeof(out.h) + len;

	out.h = (struct header){ .magic = MAGIC, .kind = DONE, .seq = seq, .body = len };
	while (done < size) {
		ssize_t n = write(fd, (const uint8_t *)&out + done, size - done);

		if (n < 0 && errno != EINTR)
			return failed(rest);
		done += n > 0 ? n : 0;
	}
	return GO_ON;
}

// wanted tells whether the paravisor wants the states behind the response that is in out.
static int wanted(uint8_t effect, uint32_t len)
{
	static const uint8_t success[4];

	return effect == CHANGES || keel_stored(NULL, 0) > 0 ||
	       (effect == REPEATS && (len < 10 || memcmp(out.body + 6, success, sizeof(success)) != 0));
}

int keel_serve(int fd, uint8_t *response, struct keel_rest *rest)
{
	int why;

	do {
		if ((why = command(fd, rest)) != GO_ON)
			break;
		rest->seq = in.h.seq;
		rest->len = sizeof(out.body);
		if (!begin(rest->seq)) {
			rest->len = sizeof(canceled);
			memcpy(out.body, canceled, rest->len);
		} else {
			rest->code = keel_process(in.h.arg, in.body, in.h.body, out.body, &rest->len);
			end();
			if (rest->code != TPM_SUCCESS)
				return KEEL_FAILED;
			if (wanted(in.h.effect, rest->len)) {
				memcpy(response, out.body, rest->len);
				return KEEL_STATES;
			}
		}
		why = answer(fd, rest->seq, rest->len, rest);
	} while (why == GO_ON);
	return why;
}
