// In place of libcurl for tpm2-tools in guests without a network: nothing works.
// Names are those that tpm2 imports; the results say failure (curl/curl.h:
// CURLE_FAILED_INIT, null pointers).

enum { failed_init = 2 };

int curl_global_init(long flags) { (void)flags; return failed_init; }
void curl_global_cleanup(void) {}
void *curl_easy_init(void) { return 0; }
int curl_easy_setopt(void *handle, int option, ...) { (void)handle; (void)option; return failed_init; }
int curl_easy_perform(void *handle) { (void)handle; return failed_init; }
void curl_easy_cleanup(void *handle) { (void)handle; }
const char *curl_easy_strerror(int code) { (void)code; return "this guest has no network"; }
char *curl_easy_escape(void *handle, const char *s, int n) { (void)handle; (void)s; (void)n; return 0; }
char *curl_easy_unescape(void *handle, const char *s, int n, int *out) { (void)handle; (void)s; (void)n; (void)out; return 0; }
void curl_free(void *p) { (void)p; }
