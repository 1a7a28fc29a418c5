#include "glue.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_memory.h>
#include <libtpms/tpm_nvfilename.h>

// The size that PTP gives the data buffer of the CRB interface.
#define BUFFER_SIZE 3968

static uint8_t locality;
static unsigned char *resp;
static uint32_t resp_cap;
static unsigned char *stored;
static uint32_t stored_cap, stored_len;
static int dirty;

static TPM_RESULT init(void)
{
	return TPM_SUCCESS;
}

// State to start with comes through TPMLIB_SetState. A TPM that was just manufactured
// reads what it stored.
static TPM_RESULT load(unsigned char **data, uint32_t *len, uint32_t number, const char *name)
{
	(void)number;
	if (stored_len == 0 || strcmp(name, TPM_PERMANENT_ALL_NAME) != 0)
		return TPM_RETRY;
	*data = malloc(stored_len);
	if (!*data)
		return TPM_FAIL;
	memcpy(*data, stored, stored_len);
	*len = stored_len;
	return TPM_SUCCESS;
}

// The last store of a command counts: each hands over the whole state.
static TPM_RESULT store(const unsigned char *data, uint32_t len, uint32_t number, const char *name)
{
	(void)number;
	if (strcmp(name, TPM_PERMANENT_ALL_NAME) != 0)
		return TPM_SUCCESS;
	if (len > stored_cap) {
		unsigned char *grown = realloc(stored, len);
		if (!grown)
			return TPM_FAIL;
		stored = grown;
		stored_cap = len;
	}
	memcpy(stored, data, len);
	stored_len = len;
	dirty = 1;
	return TPM_SUCCESS;
}

static TPM_RESULT forget(uint32_t number, const char *name, TPM_BOOL must_exist)
{
	(void)number;
	(void)name;
	(void)must_exist;
	return TPM_SUCCESS;
}

static TPM_RESULT get_locality(TPM_MODIFIER_INDICATOR *l, uint32_t number)
{
	(void)number;
	*l = locality;
	return TPM_SUCCESS;
}

static TPM_RESULT get_presence(TPM_BOOL *present, uint32_t number)
{
	(void)number;
	*present = 0;
	return TPM_SUCCESS;
}

int keel_prepare(void)
{
	unsigned char seed[16];

	// One arena: threads must not multiply the memory that the worker locks.
	mallopt(M_ARENA_MAX, 1);
	// No configuration file, and everything that libcrypto looks up once, now.
	return OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_ADD_ALL_CIPHERS | OPENSSL_INIT_ADD_ALL_DIGESTS, NULL) == 1 &&
	       RAND_bytes(seed, sizeof(seed)) == 1;
}

TPM_RESULT keel_start(const uint8_t *perm, uint32_t perm_len, const uint8_t *v, uint32_t v_len)
{
	struct libtpms_callbacks callbacks = {
		.sizeOfStruct = sizeof(callbacks),
		.tpm_nvram_init = init,
		.tpm_nvram_loaddata = load,
		.tpm_nvram_storedata = store,
		.tpm_nvram_deletename = forget,
		.tpm_io_init = init,
		.tpm_io_getlocality = get_locality,
		.tpm_io_getphysicalpresence = get_presence,
	};
	TPM_RESULT rc;

	stored_len = 0;
	dirty = 0;
	TPMLIB_SetDebugFD(2);
	TPMLIB_SetDebugLevel(1);
	if ((rc = TPMLIB_ChooseTPMVersion(TPMLIB_TPM_VERSION_2)) != TPM_SUCCESS ||
	    (rc = TPMLIB_RegisterCallbacks(&callbacks)) != TPM_SUCCESS)
		return rc;
	if (perm_len > 0 && (rc = TPMLIB_SetState(TPMLIB_STATE_PERMANENT, perm, perm_len)) != TPM_SUCCESS)
		return rc;
	if (v_len > 0 && (rc = TPMLIB_SetState(TPMLIB_STATE_VOLATILE, v, v_len)) != TPM_SUCCESS)
		return rc;
	if ((rc = TPMLIB_MainInit()) != TPM_SUCCESS)
		return rc;
	return TPMLIB_SetBufferSize(BUFFER_SIZE, NULL, NULL) == BUFFER_SIZE ? TPM_SUCCESS : TPM_FAIL;
}

void keel_stop(void)
{
	TPMLIB_Terminate();
}

TPM_RESULT keel_process(uint8_t l, uint8_t *cmd, uint32_t cmd_len, uint8_t *out, uint32_t *len)
{
	uint32_t size = 0;
	TPM_RESULT rc;

	locality = l;
	rc = TPMLIB_Process(&resp, &size, &resp_cap, cmd, cmd_len);
	if (rc == TPM_SUCCESS && size > *len)
		rc = TPM_SIZE;
	if (rc != TPM_SUCCESS)
		size = 0;
	memcpy(out, resp, size);
	*len = size;
	return rc;
}

uint32_t keel_stored(uint8_t *out, uint32_t len)
{
	if (!dirty)
		return 0;
	if (stored_len <= len) {
		memcpy(out, stored, stored_len);
		dirty = 0;
	}
	return stored_len;
}

TPM_RESULT keel_volatile(uint8_t *out, uint32_t *len)
{
	unsigned char *data = NULL;
	uint32_t n = 0;
	TPM_RESULT rc = TPMLIB_GetState(TPMLIB_STATE_VOLATILE, &data, &n);

	if (rc == TPM_SUCCESS && n > *len)
		rc = TPM_SIZE;
	if (rc == TPM_SUCCESS) {
		memcpy(out, data, n);
		*len = n;
	}
	free(data);
	return rc;
}
