#!/usr/bin/env python3
"""Launch digest of SEV-SNP and MRTD of TDX, from the bytes of an IGVM file.

Written from SNP ABI 8.17.2, the TDX module ABI (TDH.MEM.PAGE.ADD, TDH.MR.EXTEND)
and igvm_defs. It knows what Keel's images have and nothing else: pages of 4 KiB,
areas of one page, no shared and no unmeasured pages.
"""
import hashlib
import struct
import sys

data = open(sys.argv[1], "rb").read()
offset, size = struct.unpack_from("<II", data, 8)
SNP, TDX = 2, 3
masks, headers, at = {}, [], offset
while at < offset + size:
    kind, length = struct.unpack_from("<II", data, at)
    body = data[at + 8:at + 8 + length]
    at += 8 + (length + 7) // 8 * 8
    headers.append((kind, body))
    if kind == 1:  # SUPPORTED_PLATFORM
        masks[body[5]] = struct.unpack_from("<I", body)[0]


def file_page(off):
    return data[off:off + 4096] if off else bytes(4096)


def snp(mask):
    digest = bytes(48)

    def page(kind, gpa, contents=None):
        nonlocal digest
        h = hashlib.sha384(contents).digest() if contents is not None else bytes(48)
        info = digest + h + struct.pack("<HBBIQ", 112, kind, 0, 0, gpa)
        digest = hashlib.sha384(info).digest()

    for kind, body in headers:
        if kind == 0x302:  # PAGE_DATA
            gpa, m, off, flags, t, _ = struct.unpack("<QIIIHH", body)
            assert flags == 0
            if m & mask:
                if t == 0:
                    page(1, gpa, file_page(off))
                else:
                    page({1: 5, 2: 6}[t], gpa)
        elif kind == 0x303:  # PARAMETER_INSERT
            gpa, m, _ = struct.unpack("<QII", body)
            if m & mask:
                page(4, gpa)
        elif kind == 0x304:  # VP_CONTEXT
            gpa, m, off = struct.unpack_from("<QII", body)
            if m & mask:
                page(2, gpa, file_page(off))
    return digest.hex()


def tdx(mask):
    h = hashlib.sha384()

    def record(name, gpa):
        h.update(name.ljust(16, b"\0") + struct.pack("<Q", gpa) + bytes(104))

    for kind, body in headers:
        if kind == 0x302:
            gpa, m, off, _, t, _ = struct.unpack("<QIIIHH", body)
            if m & mask:
                assert t == 0
                contents = file_page(off)
                record(b"MEM.PAGE.ADD", gpa)
                for i in range(0, 4096, 256):
                    record(b"MR.EXTEND", gpa + i)
                    h.update(contents[i:i + 256])
        elif kind == 0x303:
            gpa, m, _ = struct.unpack("<QII", body)
            if m & mask:
                record(b"MEM.PAGE.ADD", gpa)
    return h.hexdigest()


print("snp", snp(masks[SNP]))
print("tdx", tdx(masks[TDX]))
