package storage

import (
	"encoding/binary"
	"fmt"
)

// An ISO 9660 image with one file (ECMA-119; section numbers of the 2nd edition).
const (
	isoSector   = 2048
	isoPVD      = 16 // primary volume descriptor, after the system area (6.2.1)
	isoEnd      = 17 // volume descriptor set terminator
	isoPathL    = 18 // path table, little-endian
	isoPathM    = 19 // path table, big-endian
	isoRoot     = 20 // root directory
	isoFile     = 21 // the file
	isoFileName = "KEEL.BIN"
)

// ISO returns the image of a disc with data as its only file, KEEL.BIN.
func ISO(data []byte) []byte {
	sectors := isoFile + (len(data)+isoSector-1)/isoSector
	image := make([]byte, sectors*isoSector)
	at := func(sector int) []byte { return image[sector*isoSector : (sector+1)*isoSector] }

	pvd := at(isoPVD) // 8.4
	copy(pvd, "\x01CD001\x01")
	copy(pvd[8:], fmt.Sprintf("%-32s%-32s", "", "KEEL"))
	both32(pvd[80:], uint32(sectors))
	both16(pvd[120:], 1) // volumes in the set
	both16(pvd[124:], 1) // this one
	both16(pvd[128:], isoSector)
	both32(pvd[132:], 10) // bytes of a path table
	binary.LittleEndian.PutUint32(pvd[140:], isoPathL)
	binary.BigEndian.PutUint32(pvd[148:], isoPathM)
	copy(pvd[156:], isoRecord("\x00", isoRoot, isoSector, true))
	for i := 190; i < 813; i++ { // identifiers of set, publisher and the like
		pvd[i] = ' '
	}
	for i := 813; i < 881; i += 17 { // no dates (8.4.26.1)
		copy(pvd[i:], "0000000000000000")
	}
	pvd[881] = 1 // version of the file structure

	copy(at(isoEnd), "\xffCD001\x01") // 8.3

	for sector, put := range map[int]func(b []byte){ // 9.4
		isoPathL: func(b []byte) {
			binary.LittleEndian.PutUint32(b[2:], isoRoot)
			binary.LittleEndian.PutUint16(b[6:], 1)
		},
		isoPathM: func(b []byte) {
			binary.BigEndian.PutUint32(b[2:], isoRoot)
			binary.BigEndian.PutUint16(b[6:], 1)
		},
	} {
		b := at(sector)
		b[0] = 1 // the root's name has one byte
		put(b)
	}

	root := at(isoRoot)
	n := copy(root, isoRecord("\x00", isoRoot, isoSector, true)) // itself
	n += copy(root[n:], isoRecord("\x01", isoRoot, isoSector, true))
	copy(root[n:], isoRecord(isoFileName+";1", isoFile, len(data), false))
	copy(image[isoFile*isoSector:], data)
	return image
}

// isoRecord returns a directory record (9.1).
func isoRecord(name string, sector, size int, dir bool) []byte {
	b := make([]byte, (33+len(name)+1)&^1)
	b[0] = byte(len(b))
	both32(b[2:], uint32(sector))
	both32(b[10:], uint32(size))
	b[18], b[19], b[20] = 70, 1, 1 // January 1st, 1970
	if dir {
		b[25] = 1 << 1
	}
	both16(b[28:], 1)
	b[32] = byte(len(name))
	copy(b[33:], name)
	return b
}

// both16 and both32 write a number in both byte orders (7.2.3, 7.3.3).
func both16(b []byte, v uint16) {
	binary.LittleEndian.PutUint16(b, v)
	binary.BigEndian.PutUint16(b[2:], v)
}

func both32(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}
