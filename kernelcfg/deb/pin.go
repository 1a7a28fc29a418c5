// Package deb fetches pinned Debian packages from the mirror that the machine's
// own apt configuration names, keeps them in the user's cache directory, and takes
// files out of them. Nothing is installed and no root is needed.
package deb

import (
	"errors"
	"strings"
)

// Stage errors of this package; each is wrapped together with its cause.
var (
	// ErrSources: apt's configuration could not be read or names no Debian mirror.
	ErrSources = errors.New("deb: apt sources")
	// ErrDropped: every mirror answers that the file does not exist any more.
	ErrDropped = errors.New("deb: mirror dropped the package")
	// ErrFetch: the transfer failed for another reason (network, disk, HTTP status).
	ErrFetch = errors.New("deb: fetch")
	// ErrChecksum: the bytes are not those that were pinned. Never falls back.
	ErrChecksum = errors.New("deb: checksum mismatch")
	// ErrExtract: the package was fetched, but its content could not be taken out.
	ErrExtract = errors.New("deb: extract")
)

// Pin names one exact file of a Debian archive. Mirrors delete old versions, so a
// thing that must stay buildable is a list of pins, newest first.
type Pin struct {
	Name    string // binary package name
	Version string // Debian version, with epoch
	Pool    string // path below the archive's root: pool/... or pool/updates/... (security)
	SHA256  string // of the .deb, lower-case hex
	Size    int64  // of the .deb, bytes
}

// String returns "name version", as messages show it.
func (p Pin) String() string { return p.Name + " " + p.Version }

// security tells that the pin lives in the security archive, which sources list
// under another address than the main one.
func (p Pin) security() bool { return strings.HasPrefix(p.Pool, "pool/updates/") }
