#!/usr/bin/env python3
"""Computes the expected digests of vectors.json from the specifications.

    python3 vectors.py > vectors.json

The images are described by directives, so that no file has to be parsed: the
script shares nothing with the package that is tested. Sources: SEV-SNP firmware
ABI (AMD 56860) 8.17.2, PAGE_INFO; TDX module ABI, TDH.MEM.PAGE.ADD and
TDH.MR.EXTEND.
"""
import hashlib
import json
import struct

PAGE = 4096
KVM_VMSA = 0xFFFFFFFFF000


def contents(fill, size=PAGE):
    """Page contents: None for no data in the file, "zero" for stored zeros, a
    number for a pattern."""
    if fill in (None, "zero"):
        return bytes(PAGE)
    return bytes((i * 7 + (i >> 8) * 13 + fill) & 0xFF for i in range(size)).ljust(PAGE, b"\0")


def page(gpa, fill=None, kind="normal", **flags):
    return {"op": "page", "gpa": gpa, "fill": fill, "kind": kind, **flags}


def pages(gpa, fills):
    return [page(gpa + i * PAGE, f) for i, f in enumerate(fills)]


def vmsa(gpa, fill, **registers):
    return {"op": "vmsa", "gpa": gpa, "fill": fill, **registers}


def vmsa_contents(d):
    """The architecture uses the first part of the page; tools keep only that.
    CR0 is at 0x158 (APM vol. 2, table B-4)."""
    b = bytearray(contents(d["fill"], 0x3F0))
    if "cr0" in d:
        struct.pack_into("<Q", b, 0x158, d["cr0"])
    return bytes(b)


def parameter(gpa):
    return {"op": "parameter", "gpa": gpa}


def snp(directives, native_zero):
    digest = bytes(48)
    for d in directives:
        if d.get("shared") or d.get("foreign"):
            continue
        hashed = bytes(48)
        if d["op"] == "vmsa":
            page_type, hashed = 2, hashlib.sha384(vmsa_contents(d)).digest()
        elif d["op"] == "parameter" or d["kind"] == "normal" and d.get("unmeasured"):
            page_type = 4
        elif d["kind"] == "secrets":
            page_type = 5
        elif d["kind"] in ("cpuid", "cpuid-xf"):
            page_type = 6
        elif d["fill"] is None and native_zero:
            page_type = 3
        else:
            page_type, hashed = 1, hashlib.sha384(contents(d["fill"])).digest()
        info = digest + hashed + struct.pack("<HBBIQ", 112, page_type, 0, 0, d["gpa"])
        assert len(info) == 112
        digest = hashlib.sha384(info).digest()
    return digest.hex()


def tdx(directives):
    mrtd = hashlib.sha384()
    for d in directives:
        if d.get("shared") or d.get("foreign"):
            continue
        mrtd.update(struct.pack("<16sQ104x", b"MEM.PAGE.ADD", d["gpa"]))
        if d["op"] == "parameter" or d.get("unmeasured"):
            continue
        data = contents(d["fill"])
        for off in range(0, PAGE, 256):
            mrtd.update(struct.pack("<16sQ104x", b"MR.EXTEND", d["gpa"] + off))
            mrtd.update(data[off:off + 256])
    return mrtd.hexdigest()


KEEL = (pages(0x100000, [1, 2, 3, 4, "zero", "zero", "zero", "zero", 5, 6, 7, 8, 9, 10, 11, "zero", "zero", "zero"])
        + pages(0x115000, range(20, 60)) + pages(0x1000000, range(100, 140)))
PARAMETERS = [parameter(g) for g in (0x112000, 0x113000, 0x114000)]
MIXED = [
    page(0x2000, 1), page(0x3000, None), page(0x4000, "zero"), page(0x5000, None, unmeasured=True),
    page(0x6000, 2, unmeasured=True), page(0x7000, 3, shared=True), page(0x7000, 4, foreign=True),
]

VECTORS = [
    ("three pages", "snp", pages(0x10000, [1, 2, 3]), {}),
    ("every kind", "snp", MIXED + [
        page(0x8000, None, "secrets"), page(0x9000, 5, "cpuid"), page(0xA000, None, "cpuid-xf"),
        parameter(0xB000), parameter(0xD000), vmsa(KVM_VMSA, 9)], {}),
    ("every kind, native zero pages", "snp", MIXED + [
        page(0x8000, None, "secrets"), page(0x9000, 5, "cpuid"), page(0xA000, None, "cpuid-xf"),
        parameter(0xB000), parameter(0xD000), vmsa(KVM_VMSA, 9)], {"native_zero": True}),
    ("like an image of Keel", "snp", KEEL + [page(0x116000 + 40 * PAGE, None, "secrets"),
        page(0x117000 + 40 * PAGE, None, "cpuid")] + PARAMETERS + [vmsa(KVM_VMSA, 77)], {}),
    ("for QEMU: areas first, native zero pages, one VMSA last", "snp", PARAMETERS + KEEL[:8] + [page(0x200000 + i * PAGE) for i in range(3)] + [
        page(0x210000, None, unmeasured=True), page(0x220000, None, "secrets"), page(0x221000, None, "cpuid"),
        vmsa(KVM_VMSA, 5, cr0=0x31)], {"qemu": True}),
    ("two VPs with pages of their own", "snp", pages(0x200000, [8]) + [vmsa(0x300000, 1), vmsa(0x301000, 2)], {}),
    ("three pages", "tdx", pages(0x10000, [1, 2, 3]), {}),
    ("three pages, another order", "tdx", list(reversed(pages(0x10000, [1, 2, 3]))), {}),
    ("every kind", "tdx", MIXED + [parameter(0xB000), parameter(0xD000)], {}),
    ("like an image of Keel", "tdx", KEEL + PARAMETERS, {}),
]


def main():
    out = []
    for name, platform, directives, options in VECTORS:
        digest = tdx(directives) if platform == "tdx" else snp(directives, "native_zero" in options or "qemu" in options)
        out.append({"name": name, "platform": platform, **options, "digest": digest, "directives": directives})
    print("[\n" + ",\n".join("\t" + json.dumps(v) for v in out) + "\n]")


if __name__ == "__main__":
    main()
