/*
 * The shim's decisions, free of any hardware access, so that the host's
 * compiler can build and test them: what the host says about the VM is checked,
 * then becomes boot_params and the handoff.
 */
#include "shim.h"

_Static_assert(__builtin_offsetof(struct image, page_tables) == IMAGE_PAGE_TABLES, "asm");
_Static_assert(__builtin_offsetof(struct image, stack_top) == IMAGE_STACK_TOP, "asm");
_Static_assert(__builtin_offsetof(struct image, gdt) == IMAGE_GDT, "asm");
_Static_assert(sizeof(struct image) <= PAGE_SIZE, "image page");
_Static_assert(sizeof(struct handoff) <= PAGE_SIZE, "handoff page");
_Static_assert(sizeof(struct host_page) <= PAGE_SIZE, "host page");

const char *const reason_text[REASONS] = {
	[OK] = "ok",
	[BAD_IMAGE] = "the image's first page is not what this shim was built for",
	[MAP_EMPTY] = "the host's memory map is empty",
	[MAP_BOUNDS] = "the host's memory map has a range beyond 52 address bits",
	[MAP_OVERLAP] = "the host's memory map has ranges that overlap",
	[MAP_TOO_LONG] = "the host's memory map has too many ranges",
	[IMAGE_NOT_RAM] = "the host gave too little memory: the image's pages are not all RAM",
	[VPS_NONE] = "the host gave no VP count",
	[VPS_TOO_MANY] = "the host gave more VPs than the image supports",
	[CMDLINE_TOO_LONG] = "the command line is too long",
};

#define MAX_PAGE (1UL << 40) /* 52 physical address bits */
/* Option ROMs and legacy video: never RAM, whatever the host says. */
#define HOLE_START 0xa0000UL
#define HOLE_END 0x100000UL

static int add_range(struct handoff *h, u64 start, u64 end, u32 type)
{
	struct range *last;

	if (start >= end)
		return 1;
	/* Neighbours of one type become one, so that a span of the image is
	 * RAM exactly when one range contains it. */
	if (h->count) {
		last = &h->ranges[h->count - 1];
		if (last->type == type && last->start + last->size == start) {
			last->size += end - start;
			return 1;
		}
	}
	if (h->count == MAX_RANGES)
		return 0;
	last = &h->ranges[h->count++];
	last->start = start;
	last->size = end - start;
	last->type = type;
	last->zero = 0;
	return 1;
}

/* Sorts a copy of the host's entries by their start. */
static u32 copy_map(struct map_entry *out, const struct map_entry *in)
{
	u32 n, i;

	for (n = 0; n < MAP_ENTRIES; n++) {
		struct map_entry e = in[n];

		if (!e.pages)
			break;
		for (i = n; i > 0 && out[i - 1].page > e.page; i--)
			out[i] = out[i - 1];
		out[i] = e;
	}
	return n;
}

/* Turns the host's memory map into sorted, disjoint ranges of bytes. */
static enum reason read_map(struct handoff *h, const struct map_entry *map)
{
	struct map_entry e[MAP_ENTRIES];
	u32 i, n = copy_map(e, map);
	u64 last = 0;

	if (!n)
		return MAP_EMPTY;
	for (i = 0; i < n; i++) {
		u64 start, end;
		int fits, ram = e[i].type == MAP_MEMORY || e[i].type == MAP_VTL2_PROTECTABLE;

		if (e[i].page > MAX_PAGE || e[i].pages > MAX_PAGE - e[i].page)
			return MAP_BOUNDS;
		start = e[i].page * PAGE_SIZE;
		end = start + e[i].pages * PAGE_SIZE;
		if (start < last)
			return MAP_OVERLAP;
		last = end;
		if (ram) {
			u64 below = end < HOLE_START ? end : HOLE_START;
			u64 above = start > HOLE_END ? start : HOLE_END;

			fits = add_range(h, start, below, E820_RAM) && add_range(h, above, end, E820_RAM);
		} else {
			/* Types that are unknown here are not RAM either. */
			fits = add_range(h, start, end, E820_RESERVED);
		}
		if (!fits)
			return MAP_TOO_LONG;
	}
	for (i = 0; i < h->count; i++)
		if (h->ranges[i].type == E820_RAM)
			h->ram_bytes += h->ranges[i].size;
	return OK;
}

static int is_ram(const struct handoff *h, struct span s)
{
	u32 i;

	for (i = 0; i < h->count; i++) {
		const struct range *r = &h->ranges[i];

		if (r->type == E820_RAM && s.start >= r->start && s.size <= r->size &&
		    s.start - r->start <= r->size - s.size)
			return 1;
	}
	return 0;
}

/* Appends a text of at most max bytes; returns the new length, or MAX_CMDLINE
 * when it does not fit. */
static u32 append(char *out, u32 n, const char *in)
{
	u32 i;

	for (i = 0; n < MAX_CMDLINE; i++, n++) {
		char c = i < MAX_CMDLINE ? in[i] : 0;

		out[n] = c;
		if (!c)
			return n;
	}
	return MAX_CMDLINE;
}

static enum reason build_cmdline(const struct pages *p)
{
	u32 n = append(p->cmdline_out, 0, p->cmdline);

	/* A processor that is a program does not speculate: what the kernel does
	 * against that only costs time there. A host that must not be trusted does
	 * not get to say so. */
	if (p->emulated && p->image->platform == PLATFORM_NATIVE)
		n = append(p->cmdline_out, n, " mitigations=off");
	if (n == MAX_CMDLINE)
		return CMDLINE_TOO_LONG;
	/* Only a debug image listens to the host: its text could turn off
	 * everything that the measured one turns on. */
	if ((p->image->flags & FLAG_DEBUG) && p->host->cmdline[0]) {
		n = append(p->cmdline_out, n, " ");
		n = append(p->cmdline_out, n, p->host->cmdline);
		if (n == MAX_CMDLINE)
			return CMDLINE_TOO_LONG;
	}
	return OK;
}

static void put32(u8 *p, u64 v)
{
	int i;

	for (i = 0; i < 4; i++)
		p[i] = v >> (8 * i);
}

static void put64(u8 *p, u64 v)
{
	put32(p, v);
	put32(p + 4, v >> 32);
}

/* Offsets into boot_params (Documentation/arch/x86/boot.rst, zero-page.rst). */
#define BP_RSDP 0x70
#define BP_E820_COUNT 0x1e8
#define BP_SETUP 0x1f1
#define BP_SETUP_LENGTH 0x201 /* the header ends at 0x202 plus this byte */
#define BP_LOADER 0x210
#define BP_CODE32 0x214
#define BP_RAMDISK 0x218
#define BP_RAMDISK_SIZE 0x21c
#define BP_CMDLINE 0x228
#define BP_SETUP_DATA 0x250
#define BP_E820 0x2d0
#define E820_BYTES 20

static enum reason build_boot_params(const struct pages *p)
{
	const struct image *m = p->image;
	u8 *bp = p->boot_params;
	u32 i, n = 0x202 - BP_SETUP + m->setup_header[BP_SETUP_LENGTH - BP_SETUP];

	if (n > sizeof(m->setup_header) || n < BP_SETUP_DATA + 8 - BP_SETUP)
		return BAD_IMAGE;
	memset(bp, 0, PAGE_SIZE);
	memcpy(bp + BP_SETUP, m->setup_header, n);
	bp[BP_LOADER] = 0xff; /* no number assigned */
	put32(bp + BP_CODE32, m->kernel);
	put32(bp + BP_RAMDISK, m->initrd_bytes ? m->initrd : 0);
	put32(bp + BP_RAMDISK_SIZE, m->initrd_bytes);
	put32(bp + BP_CMDLINE, m->cmdline_out);
	put64(bp + BP_SETUP_DATA, m->handoff);
	put64(bp + BP_RSDP, p->rsdp);
	bp[BP_E820_COUNT] = p->handoff->count;
	for (i = 0; i < p->handoff->count; i++) {
		const struct range *r = &p->handoff->ranges[i];
		u8 *e = bp + BP_E820 + i * E820_BYTES;

		put64(e, r->start);
		put64(e + 8, r->size);
		put32(e + 16, r->type);
	}
	return OK;
}

/* Checks what the host says and fills boot_params, command line and handoff. */
enum reason shim_build(const struct pages *p)
{
	const struct image *m = p->image;
	struct handoff *h = p->handoff;
	u32 vps = *p->vps;
	enum reason why;

	if (m->magic != IMAGE_MAGIC || m->version != IMAGE_VERSION || m->bytes != sizeof(*m))
		return BAD_IMAGE;
	if (!vps)
		return VPS_NONE;
	if (vps > MAX_VPS)
		return VPS_TOO_MANY;
	memset(h, 0, PAGE_SIZE);
	why = read_map(h, p->map);
	if (why)
		return why;
	h->type = SETUP_DATA_TYPE;
	h->bytes = sizeof(*h) - SETUP_DATA_HEADER - (MAX_RANGES - h->count) * sizeof(struct range);
	h->len = h->bytes;
	h->magic = HANDOFF_MAGIC;
	h->version = HANDOFF_VERSION;
	h->platform = m->platform;
	h->flags = m->flags;
	h->vps = vps;
	h->control = (struct span){ m->control, m->control_bytes };
	h->kernel = (struct span){ m->kernel, m->kernel_bytes };
	h->initrd = (struct span){ m->initrd, m->initrd_bytes };
	memcpy(h->digest, m->digest, sizeof(h->digest));
	if (!is_ram(h, h->control) || !is_ram(h, h->kernel) ||
	    (h->initrd.size && !is_ram(h, h->initrd)))
		return IMAGE_NOT_RAM;
	why = build_cmdline(p);
	if (why)
		return why;
	return build_boot_params(p);
}

#define RSDP_BYTES 20 /* ACPI 1.0 part, which the first checksum covers */

/* A root pointer is worth reading when it is aligned, below 4 GiB (all that is
 * mapped) and outside the image. ACPI 6.5, 5.2.5.3. */
int rsdp_placed(const struct image *m, u64 rsdp)
{
	struct span s[3] = {
		{ m->control, m->control_bytes },
		{ m->kernel, m->kernel_bytes },
		{ m->initrd, m->initrd_bytes },
	};
	int i;

	if (!rsdp || rsdp % 16 || rsdp > (1UL << 32) - PAGE_SIZE)
		return 0;
	for (i = 0; i < 3; i++)
		if (rsdp < s[i].start + s[i].size && s[i].start < rsdp + RSDP_BYTES)
			return 0;
	return 1;
}

int rsdp_ok(const u8 *t)
{
	static const char sig[8] = { 'R', 'S', 'D', ' ', 'P', 'T', 'R', ' ' };
	u8 sum = 0;
	int i;

	for (i = 0; i < 8; i++)
		if (t[i] != (u8)sig[i])
			return 0;
	for (i = 0; i < RSDP_BYTES; i++)
		sum += t[i];
	return !sum;
}

/*
 * The PVH entry plays the IGVM host. Firmware maps have ranges of odd bytes:
 * RAM shrinks to whole pages, everything else grows, and a range that then
 * begins within its predecessor is cut. Preconditions: sorted, as every
 * firmware does; if not, the check of the result refuses it.
 */
void pvh_map(struct map_entry *out, const struct pvh_range *in, u32 count)
{
	u64 last = 0;
	u32 i, n = 0;

	for (i = 0; i < count && n < MAP_ENTRIES; i++) {
		struct pvh_range r = in[i];
		u64 end = r.addr + r.size < r.addr ? ~0UL : r.addr + r.size;
		u64 first = r.addr / PAGE_SIZE, behind = end / PAGE_SIZE;

		if (r.type == E820_RAM)
			first += r.addr % PAGE_SIZE != 0;
		else
			behind += end % PAGE_SIZE != 0;
		if (first < last && r.addr >= (last - 1) * PAGE_SIZE)
			first = last;
		if (behind <= first)
			continue;
		out[n].page = first;
		out[n].pages = behind - first;
		out[n].type = r.type == E820_RAM ? MAP_MEMORY : MAP_RESERVED;
		last = behind;
		n++;
	}
}

/* Copies what the host calls a command line; too long a text is cut. */
void pvh_cmdline(char *out, const char *in)
{
	u32 i;

	for (i = 0; i < MAX_CMDLINE - 1 && in[i]; i++)
		out[i] = in[i];
	out[i] = 0;
}
