package deb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Cache fetches packages and keeps them by checksum. All fields must be set; see
// Default. It may be used concurrently, and several processes may share one Dir.
type Cache struct {
	Dir      string    // holds <sha256>.deb
	Root     string    // of the machine whose etc/apt is read, "/" but in tests
	Progress io.Writer // human-readable lines
	Client   *http.Client
}

// Default returns the user's cache, reporting on standard error.
func Default() (*Cache, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	return &Cache{Dir: filepath.Join(dir, "keel", "deb"), Root: "/", Progress: os.Stderr, Client: client()}, nil
}

// FirstAvailable fetches the first of pins that the mirrors still carry. A dropped
// pin is reported loudly, for the result then is not what the newest pin would
// give. Any other failure, a wrong checksum above all, ends the search.
func (c *Cache) FirstAvailable(ctx context.Context, pins ...Pin) (string, Pin, error) {
	var dropped error
	for i, p := range pins {
		path, err := c.Fetch(ctx, p)
		if !errors.Is(err, ErrDropped) {
			return path, p, err
		}
		dropped = err
		if i+1 < len(pins) {
			fmt.Fprintf(c.Progress, "keel: WARNING: the mirror dropped %s; falling back to %s. Update the pin.\n", p, pins[i+1])
		}
	}
	if dropped == nil {
		dropped = fmt.Errorf("%w: no pin given", ErrFetch)
	}
	return "", Pin{}, dropped
}

// Fetch returns the path of the package in the cache, downloading it when needed.
// Errors: ErrSources, ErrDropped, ErrFetch, ErrChecksum.
func (c *Cache) Fetch(ctx context.Context, p Pin) (string, error) {
	final := filepath.Join(c.Dir, p.SHA256+".deb")
	if present(final, p) {
		return final, nil
	}
	unlock, err := Lock(filepath.Join(c.Dir, p.SHA256+".lock"), c.Progress)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrFetch, err)
	}
	defer unlock()
	if present(final, p) { // another process was faster
		return final, nil
	}
	mirrors, err := Mirrors(c.Root)
	if err != nil {
		return "", err
	}
	// The archive that should have the file goes first; the others stay as second
	// chance, for a local mirror may merge both.
	sort.SliceStable(mirrors, func(i, j int) bool {
		return mirrors[i].Security == p.security() && mirrors[j].Security != p.security()
	})
	// Only when every mirror denies having it is the package gone for good.
	var failures []error
	for _, m := range mirrors {
		err := c.download(ctx, m.URI+"/"+p.Pool, final, p)
		switch {
		case err == nil:
			return final, nil
		case errors.Is(err, ErrChecksum), ctx.Err() != nil:
			return "", err
		case !errors.Is(err, ErrDropped):
			failures = append(failures, err)
		}
	}
	if len(failures) > 0 { // an unreachable mirror says nothing about what it carries
		return "", errors.Join(failures...)
	}
	return "", fmt.Errorf("%w: %s", ErrDropped, p)
}

// present trusts a cached file of the right size: it got its name only after its
// checksum was verified.
func present(path string, p Pin) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Size() == p.Size
}

// download continues or starts <final>.part, verifies it and renames it.
// Precondition: the caller holds the pin's lock.
func (c *Cache) download(ctx context.Context, from, final string, p Pin) error {
	part := strings.TrimSuffix(final, ".deb") + ".part"
	resumed, err := c.transfer(ctx, from, part, p)
	if err != nil {
		return err
	}
	// The sum is taken from what lies on disk, which also covers an earlier attempt's part.
	sum, err := sumFile(part)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFetch, err)
	}
	if sum == p.SHA256 {
		if err := os.Rename(part, final); err != nil {
			return fmt.Errorf("%w: %w", ErrFetch, err)
		}
		return nil
	}
	if err := os.Remove(part); err != nil {
		return fmt.Errorf("%w: %w", ErrFetch, err)
	}
	if resumed { // the old beginning may be at fault: once more, in one piece
		return c.download(ctx, from, final, p)
	}
	return fmt.Errorf("%w: %s from %s has %s, pinned is %s", ErrChecksum, p, from, sum, p.SHA256)
}

// transfer gets the bytes; resumed tells that part held some before.
func (c *Cache) transfer(ctx context.Context, from, part string, p Pin) (resumed bool, err error) {
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	defer f.Close()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	// Complete, but never verified: an earlier run ended in between.
	if have == p.Size {
		return true, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	if have > 0 && have < p.Size {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	resp, err := c.Client.Do(req)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusPartialContent: // continues where the part ends
		resumed = true
	case http.StatusOK: // the mirror ignores ranges and sends all of it
		have = 0
	case http.StatusNotFound, http.StatusGone: // what mirrors say of deleted versions
		return false, fmt.Errorf("%w: %s: %s", ErrDropped, from, resp.Status)
	default:
		return false, fmt.Errorf("%w: %s: %s", ErrFetch, from, resp.Status)
	}
	if err := f.Truncate(have); err != nil {
		return false, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return false, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	meter := NewMeter(c.Progress, "fetching "+p.String(), have, p.Size)
	// One byte more than promised is enough to see that the file is another one.
	n, err := io.Copy(io.MultiWriter(f, meter), io.LimitReader(resp.Body, p.Size-have+1))
	if err == nil && have+n < p.Size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return false, fmt.Errorf("%w: %s: %w", ErrFetch, from, err)
	}
	meter.Done()
	return resumed, nil
}

// sumFile returns the SHA-256 of a file in hex.
func sumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// client returns an HTTP client that uses the environment's proxy and, failing that,
// apt's: machines behind a proxy often name it only there.
func client() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	// Bounds a dead mirror; the body may take as long as it moves.
	t.ResponseHeaderTimeout = time.Minute
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		if u, err := http.ProxyFromEnvironment(r); u != nil || err != nil {
			return u, err
		}
		return aptProxy(r.URL.Scheme), nil
	}
	return &http.Client{Transport: t}
}

// aptProxy asks apt-config for the proxy of a URL scheme; nil means a direct way.
func aptProxy(scheme string) *url.URL {
	// apt-config merges all of apt.conf.d, which is not worth parsing twice.
	out, err := exec.Command("apt-config", "dump", "--format", "%v", "Acquire::"+scheme+"::Proxy").Output()
	text := strings.TrimSpace(string(out))
	if err != nil || text == "" || strings.EqualFold(text, "DIRECT") {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil
	}
	return u
}
