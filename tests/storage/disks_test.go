package storage

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keel/tests/harness"
)

// TestVerify reads and writes at random and verifies every block.
func TestVerify(t *testing.T) {
	t.Parallel()
	mib := size(64, 2048)
	params := []string{fmt.Sprintf("mib=%d", mib)}
	if harness.Soak() { // an emulated processor counts the blocks, and 2 GiB are many
		params = append(params, "bssplit=4k/30:64k/30:1m/40")
	}
	for _, m := range machines(virtio510x1, storvsc61x1) {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			console := m.script(t, []string{image(t, mib)}, ScriptVerify, params, "verify")
			t.Log(detail(t, console, "verify"))
		})
	}
}

// TestFileSystems makes, fills, unmounts and checks file systems.
func TestFileSystems(t *testing.T) {
	t.Parallel()
	mib := size(48, 256)
	for i, m := range machines(virtio61x1, storvsc61x1) {
		for j, fs := range []string{"ext4", "xfs"} {
			if !harness.Soak() && i != j {
				continue
			}
			t.Run(m.String()+"/"+fs, func(t *testing.T) {
				t.Parallel()
				// XFS wants 300 MiB at least.
				m.script(t, []string{image(t, mib+400)}, ScriptFileSystem,
					[]string{"fs=" + fs, fmt.Sprintf("mib=%d", mib)}, "filesystem-"+fs)
			})
		}
	}
}

// TestDiscard sees the room that images take grow and fall.
func TestDiscard(t *testing.T) {
	t.Parallel()
	const mib = 64
	for _, m := range machines(virtio61x1, storvsc61x1) {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			disks := []string{image(t, 4*mib), image(t, 4*mib)}
			var peaks [2]atomic.Int64
			stop := make(chan struct{})
			watched := make(chan struct{})
			go func() {
				defer close(watched)
				for {
					for i, d := range disks {
						if n, err := Allocated(d); err == nil && n > peaks[i].Load() {
							peaks[i].Store(n)
						}
					}
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
					}
				}
			}()
			m.script(t, disks, ScriptDiscard, []string{fmt.Sprintf("mib=%d", mib)}, "discard", "fstrim")
			close(stop)
			<-watched
			// A file system keeps its own tables and journal: what its file took must be free.
			for i, most := range []int64{1 << 20, peaks[1].Load() - (mib-1)<<20} {
				now, err := Allocated(disks[i])
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("disk %d: at most %d MiB, then %d KiB", i, peaks[i].Load()>>20, now>>10)
				if peaks[i].Load() < mib<<20 || now > most {
					t.Errorf("disk %d takes %d bytes after at most %d: want at most %d after at least %d", i, now, peaks[i].Load(), most, mib<<20)
				}
			}
		})
	}
}

// TestBlocks4K uses disks with logical blocks of both sizes.
func TestBlocks4K(t *testing.T) {
	t.Parallel()
	for _, m := range machines(storvsc61x1) {
		for _, bs := range []string{"4096", "512"} {
			if !harness.Soak() && bs == "512" {
				continue
			}
			t.Run(m.String()+"/"+bs, func(t *testing.T) {
				t.Parallel()
				m.script(t, []string{image(t, 64) + ",bs=" + bs}, ScriptBlocks4K, []string{"bs=" + bs}, "blocks")
			})
		}
	}
}

// TestStripe writes to a stripe and puts the disk together from its images.
func TestStripe(t *testing.T) {
	t.Parallel()
	mib := size(16, 128)
	for _, m := range machines(virtio61x1) {
		for _, chunk := range []int64{64 << 10, 4 << 10} {
			if !harness.Soak() && chunk == 4<<10 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", m, chunk), func(t *testing.T) {
				t.Parallel()
				files := []string{image(t, mib), image(t, mib)}
				disk := fmt.Sprintf("%s,stripe=%s,chunk=%d", files[0], files[1], chunk)
				console := m.script(t, []string{disk}, ScriptPattern, []string{fmt.Sprintf("mib=%d", mib)}, "pattern")
				stripe := Stripe{Chunk: chunk}
				for _, name := range files {
					f, err := os.Open(name)
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					stripe.Parts = append(stripe.Parts, f)
				}
				sum, err := Sum(stripe, int64(mib)<<20)
				if said := detail(t, console, "pattern"); err != nil || said != "sha256="+sum {
					t.Errorf("the guest wrote %s, the images hold %s (%v)", said, sum, err)
				}
			})
		}
	}
}

// TestDVD reads a disc that cannot be written.
func TestDVD(t *testing.T) {
	t.Parallel()
	data := make([]byte, size(4, 64)<<20+12345)
	if _, err := io.ReadFull(rand.NewChaCha8([32]byte{}), data); err != nil {
		t.Fatal(err)
	}
	disc := ISO(data)
	path := filepath.Join(t.TempDir(), "disc.iso")
	if err := os.WriteFile(path, disc, 0o400); err != nil {
		t.Fatal(err)
	}
	sum, err := Sum(strings.NewReader(string(disc)), int64(len(disc)))
	if err != nil {
		t.Fatal(err)
	}
	file, err := Sum(strings.NewReader(string(data)), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range machines(virtio61x1, storvsc510x1) {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			m.script(t, []string{path + ",dvd"}, ScriptDVD,
				[]string{fmt.Sprintf("bytes=%d", len(disc)), "sha256=" + sum, "file=" + file}, "dvd", "iso9660", "readonly")
		})
	}
}

// TestSG compares all that a disk says of itself with what was recorded. Golden files
// belong to the release of sg3-utils that kernelcfg pins first.
func TestSG(t *testing.T) {
	t.Parallel()
	for _, m := range machines(virtio61x1, storvsc61x1) {
		if m.VPs != 1 { // the number changes nothing
			continue
		}
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			console := m.script(t, []string{image(t, 64)}, ScriptSG, nil,
				"write_same_10", "write_same_16", "write_same_unmap", "compare_and_write")
			compareGolden(t, filepath.Join("testdata", "sg-"+m.Front), m.Kernel, Golden(Sections(console)))
		})
	}
}

// compareGolden compares text with PATH.golden, where PATH-KERNEL.golden may have sections
// that differ with this kernel, or writes the former when KEEL_GOLDEN=write.
func compareGolden(t *testing.T, path, kernel, got string) {
	t.Helper()
	differing, err := os.ReadFile(path + "-" + kernel + ".golden")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	path += ".golden"
	if os.Getenv("KEEL_GOLDEN") == "write" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: record it with KEEL_GOLDEN=write, then read it against the standards", err)
	}
	if diff := firstDifference(Differing(string(want), string(differing)), got); diff != "" {
		t.Errorf("%s: %s", path, diff)
	}
}

// firstDifference shows where two texts part, with the command whose output it is.
func firstDifference(want, got string) string {
	if want == got {
		return ""
	}
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	section := ""
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return fmt.Sprintf("line %d, %s: got %q, want %q", i+1, section, b, a)
		}
		if strings.HasPrefix(a, "== ") {
			section = a
		}
	}
	return "one text is longer"
}
