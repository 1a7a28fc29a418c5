package boot

import (
	"errors"
	"testing"

	"keel/diag/client"
	"keel/diag/server"
)

// errSeen ends a stream of which enough was seen.
var errSeen = errors.New("enough")

// diagLogs follows a VM.
func diagLogs(t *testing.T, vm *diagVM) {
	c := vm.dial(t)
	last, n := uint64(0), 0
	err := c.Watch(t.Context(), "uptime", 0, server.MinInterval, func(tree *client.Tree) error {
		up, _ := tree.Value.(uint64)
		if up <= last || tree.Confidential != vm.Confidential {
			t.Errorf("%+v after %d", tree, last)
		}
		if last, n = up, n+1; n == 3 {
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		t.Errorf("%v", err)
	}
	if err := c.Watch(t.Context(), "exits/none", 0, server.MinInterval, func(*client.Tree) error { return nil }); !errors.Is(err, client.ErrPath) {
		t.Errorf("%v", err)
	}
}
