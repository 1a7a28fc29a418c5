/*
 * Runs the shim's logic on the host. Requests come in on stdin, answers leave on
 * stdout; a request is one letter and its inputs. shim_test.go is the other end.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include "shim.h"

/* Every buffer is on the heap, so that the sanitizer sees a step beside it. */
static void *get(size_t n)
{
	void *p = malloc(n ? n : 1);

	if (fread(p, 1, n, stdin) != n)
		exit(2);
	return p;
}

static void put(const void *p, size_t n)
{
	fwrite(p, 1, n, stdout);
}

static void build(void)
{
	struct pages p = {
		.image = get(sizeof(struct image)),
		.map = get(PAGE_SIZE),
		.vps = get(sizeof(u32)),
		.host = get(sizeof(struct host_page)),
		.cmdline = get(MAX_CMDLINE),
		.cmdline_out = malloc(PAGE_SIZE),
		.boot_params = malloc(PAGE_SIZE),
		.handoff = malloc(PAGE_SIZE),
	};
	u64 *rsdp = get(sizeof(u64));
	u32 *emulated = get(sizeof(u32));
	u32 why;

	memset(p.cmdline_out, 0xaa, PAGE_SIZE);
	memset(p.boot_params, 0xaa, PAGE_SIZE);
	memset(p.handoff, 0xaa, PAGE_SIZE);
	p.rsdp = *rsdp;
	p.emulated = *emulated;
	why = shim_build(&p);
	put(&why, sizeof(why));
	put(p.boot_params, PAGE_SIZE);
	put(p.handoff, PAGE_SIZE);
	put(p.cmdline_out, PAGE_SIZE);
	free((void *)p.image);
	free((void *)p.map);
	free((void *)p.vps);
	free((void *)p.host);
	free((void *)p.cmdline);
	free(p.cmdline_out);
	free(p.boot_params);
	free(p.handoff);
	free(rsdp);
	free(emulated);
}

static void map(void)
{
	u32 *count = get(sizeof(u32));
	struct pvh_range *in = get(*count * sizeof(*in));
	struct map_entry *out = calloc(1, PAGE_SIZE);

	pvh_map(out, in, *count);
	put(out, PAGE_SIZE);
	free(count);
	free(in);
	free(out);
}

static void rsdp(void)
{
	struct image *m = get(sizeof(*m));
	u64 *where = get(sizeof(u64));
	u8 *table = get(20);
	u32 answer = rsdp_placed(m, *where) | rsdp_ok(table) << 1;

	put(&answer, sizeof(answer));
	free(m);
	free(where);
	free(table);
}

static void cmdline(void)
{
	char *in = get(PAGE_SIZE), *out = calloc(1, MAX_CMDLINE);

	pvh_cmdline(out, in);
	put(out, MAX_CMDLINE);
	free(in);
	free(out);
}

#define NUMBER(x) printf(#x " %lu\n", (u64)(x))
#define FIELD(s, f) printf(#s "." #f " %zu\n", offsetof(struct s, f))

static void constants(void)
{
	NUMBER(IMAGE_GPA);
	NUMBER(IMAGE_MAGIC);
	NUMBER(IMAGE_VERSION);
	NUMBER(sizeof(struct image));
	NUMBER(FLAG_DEBUG);
	NUMBER(SETUP_DATA_TYPE);
	NUMBER(SETUP_DATA_HEADER);
	NUMBER(HANDOFF_MAGIC);
	NUMBER(HANDOFF_VERSION);
	NUMBER(MAX_RANGES);
	NUMBER(MAX_VPS);
	NUMBER(E820_RAM);
	NUMBER(E820_RESERVED);
	NUMBER(offsetof(struct handoff, ranges) - SETUP_DATA_HEADER);
	NUMBER(sizeof(struct range));
	NUMBER(sizeof(struct map_entry));
	NUMBER(SEL_CODE);
	NUMBER(SEL_DATA);
	FIELD(image, magic);
	FIELD(image, version);
	FIELD(image, bytes);
	FIELD(image, platform);
	FIELD(image, flags);
	FIELD(image, control);
	FIELD(image, kernel);
	FIELD(image, initrd);
	FIELD(image, page_tables);
	FIELD(image, stack_top);
	FIELD(image, cmdline);
	FIELD(image, cmdline_out);
	FIELD(image, boot_params);
	FIELD(image, handoff);
	FIELD(image, param_map);
	FIELD(image, param_vp);
	FIELD(image, param_host);
	FIELD(image, igvm_entry);
	FIELD(image, pvh_entry);
	FIELD(image, gdt);
	FIELD(image, digest);
	FIELD(image, setup_header);
	printf("end 0\n");
}

int main(void)
{
	int op;

	while ((op = getchar()) != EOF) {
		switch (op) {
		case 'B':
			build();
			break;
		case 'M':
			map();
			break;
		case 'R':
			rsdp();
			break;
		case 'L':
			cmdline();
			break;
		case 'C':
			constants();
			break;
		default:
			return 3;
		}
		fflush(stdout);
	}
	return 0;
}
