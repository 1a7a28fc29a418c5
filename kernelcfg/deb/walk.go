package deb

import (
	"archive/tar"
	"io"
	"io/fs"
	"net/url"
)

// Walk calls fn for each member of the package's file archive, in the order of the
// archive. Names are clean and relative, link targets are as the package has them;
// r ends with the member. What fn returns ends the walk.
func Walk(file string, fn func(h *tar.Header, r io.Reader) error) error {
	return walk(file, fn)
}

// Proxy returns the proxy of apt's own configuration for a URL scheme, nil for none:
// what a second apt with a configuration of its own has to be told.
func Proxy(scheme string) *url.URL { return aptProxy(scheme) }

// WriteFile fills dst, creating its folder, so that it is never seen half written.
func WriteFile(dst string, r io.Reader, mode fs.FileMode) error { return writeFile(dst, r, mode) }
