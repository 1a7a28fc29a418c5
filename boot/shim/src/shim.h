/*
 * Structures that the shim shares with boot/layout (struct image), with the
 * paravisor (struct handoff) and with its two hosts. The Go side has the same
 * numbers; a test of boot/shim compares them.
 */
#ifndef KEEL_SHIM_H
#define KEEL_SHIM_H

#define PAGE_SIZE 4096
#define IMAGE_GPA 0x100000 /* the struct image; the shim is linked one page behind it */

/* Offsets into struct image that the assembly needs. */
#define IMAGE_PAGE_TABLES 0x48
#define IMAGE_STACK_TOP 0x50
#define IMAGE_GDT 0xa0
#define GDT_BYTES 32

#define SEL_CODE 0x10 /* __BOOT_CS of the Linux boot protocol */
#define SEL_DATA 0x18 /* __BOOT_DS */

#ifndef __ASSEMBLER__

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define IMAGE_MAGIC 0x47414d494c45454bUL /* "KEELIMAG" */
#define IMAGE_VERSION 1
#define FLAG_DEBUG 1 /* the host's command line is appended */
#define PLATFORM_NATIVE 0 /* IGVM_PLATFORM_TYPE: the host is trusted */

/* What was measured: written by boot/layout, the first page of the image. */
struct image {
	u64 magic;
	u32 version, bytes;
	u32 platform, flags;
	u64 control, control_bytes; /* this page to the last parameter area */
	u64 kernel, kernel_bytes;   /* load address; space that unpacking takes */
	u64 initrd, initrd_bytes;
	u64 page_tables, stack_top;
	u64 cmdline, cmdline_out;   /* measured text; the text that the kernel gets */
	u64 boot_params, handoff;
	u64 param_map, param_vp, param_host; /* one page each, from the host */
	u64 igvm_entry, pvh_entry;
	u64 gdt[4];
	u8 digest[32];        /* SHA-256 over the image with zeros here */
	u8 setup_header[160]; /* of the bzImage, from SETUP_START */
};

/* What the host claims. Untrusted, read once. */
#define MAX_VPS 256
#define MAX_RANGES 128 /* E820_MAX_ENTRIES_ZEROPAGE */
#define MAP_ENTRIES (PAGE_SIZE / sizeof(struct map_entry))
#define MAX_CMDLINE 2048 /* COMMAND_LINE_SIZE of x86 Linux, with the final NUL */

struct map_entry { /* IGVM_VHS_MEMORY_MAP_ENTRY */
	u64 page, pages;
	u16 type, flags;
	u32 reserved;
};
#define MAP_MEMORY 0
#define MAP_RESERVED 1
#define MAP_VTL2_PROTECTABLE 3

struct host_page { /* no IGVM parameter: filled by the PVH entry only */
	u64 rsdp;
	char cmdline[MAX_CMDLINE];
};

/* The setup_data node for the paravisor (boot/handoff). */
#define SETUP_DATA_TYPE 0x4c45454b
#define HANDOFF_MAGIC 0x444e41484c45454bUL /* "KEELHAND" */
#define HANDOFF_VERSION 1

#define E820_RAM 1
#define E820_RESERVED 2

struct span {
	u64 start, size;
};

struct range {
	u64 start, size;
	u32 type, zero;
};

struct handoff {
	u64 next; /* struct setup_data */
	u32 type, len;
	u64 magic;
	u32 version, bytes;
	u32 platform, flags;
	u32 vps, count;
	u64 ram_bytes;
	struct span control, kernel, initrd;
	u8 digest[32];
	struct range ranges[MAX_RANGES];
};
#define SETUP_DATA_HEADER 16

/* Why the shim refuses to start; text[] in logic.c has the words. */
enum reason {
	OK,
	BAD_IMAGE,
	MAP_EMPTY,
	MAP_BOUNDS,
	MAP_OVERLAP,
	MAP_TOO_LONG,
	IMAGE_NOT_RAM,
	VPS_NONE,
	VPS_TOO_MANY,
	CMDLINE_TOO_LONG,
	REASONS,
};
extern const char *const reason_text[REASONS];

/* What shim_build reads and writes; on the host a test supplies them. */
struct pages {
	const struct image *image;
	const struct map_entry *map;
	const u32 *vps;
	const struct host_page *host;
	const char *cmdline;
	char *cmdline_out;
	u8 *boot_params;
	struct handoff *handoff;
	u64 rsdp; /* checked by rsdp_ok, or zero */
	u32 emulated; /* the processor is a program */
};
enum reason shim_build(const struct pages *p);
int rsdp_placed(const struct image *image, u64 rsdp);
int rsdp_ok(const u8 *table);

/* PVH: struct hvm_start_info and its memory map (Xen public headers,
 * arch-x86/hvm/start_info.h). */
#define PVH_MAGIC 0x336ec578
struct pvh_start {
	u32 magic, version, flags, nr_modules;
	u64 modlist, cmdline, rsdp;
	u64 memmap; /* from version 1 on */
	u32 memmap_entries, reserved;
};
struct pvh_range {
	u64 addr, size;
	u32 type, reserved;
};
void pvh_map(struct map_entry *out, const struct pvh_range *in, u32 count);
void pvh_cmdline(char *out, const char *in);

void *memset(void *d, int v, u64 n);
void *memcpy(void *d, const void *s, u64 n);

#endif
#endif
