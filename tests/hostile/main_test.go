// Package hostile attacks Keel from where its enemies are: as a guest, which must
// end nothing but itself; as whoever supplies the files and the VM, who must be
// told in one line what is wrong; and as whatever kills the tool, which must leave
// nothing behind. As many runs go at a time as there are processors.
//
// KEEL_IMAGE and KEEL_IMAGE_DEBUG name images to use in place of new ones.
// KEEL_SOAK runs what takes too long for CI.
package hostile

import (
	"os"
	"testing"

	"keel/tests/harness"
)

const root = "../.." // the module's folder

// tool is what all tests run.
var tool *harness.Tool

// soak tells whether there is time for everything.
var soak = harness.Soak()

func TestMain(m *testing.M) { os.Exit(harness.Main(m, root, &tool, nil)) }
