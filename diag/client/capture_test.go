package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keel/diag/pcapng"
	"keel/diag/server"
)

// block is a whole block with one word in it.
var block = []byte{7, 0, 0, 0, 16, 0, 0, 0, 1, 2, 3, 4, 16, 0, 0, 0}

// fakeCapture captures what its disk is named after.
func fakeCapture(ctx context.Context, disk string, data int, send func(server.Piece) error) error {
	switch disk {
	case "none":
		return fmt.Errorf("%w: %q", server.ErrNoDisk, disk)
	case "busy":
		return server.ErrCapturing
	case "bad":
		return send(server.Piece{PCAPNG: block[:15]})
	}
	for i := range 3 {
		if err := send(server.Piece{PCAPNG: block, Records: uint64(10*i + data), Lost: uint64(i)}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return send(server.Piece{PCAPNG: block, Records: 99})
}

func TestPacketCapture(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	start(t, path, server.Config{Root: &part{}, Capture: fakeCapture})
	c := dial(t, path)
	var got []byte
	var last Piece
	if err := c.PacketCapture(t.Context(), CaptureOptions{Data: 5, Length: time.Second}, func(p Piece) error {
		got, last = append(got, p.PCAPNG...), p
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bytes.Repeat(block, 4)) || last.Records != 99 {
		t.Errorf("%x, %+v", got, last)
	}
	more := func(Piece) error { return nil }
	for name, tt := range map[string]struct {
		o    CaptureOptions
		want error
	}{
		"no such disk":  {CaptureOptions{Disk: "none"}, ErrPath},
		"busy":          {CaptureOptions{Disk: "busy"}, ErrBusy},
		"half a block":  {CaptureOptions{Disk: "bad"}, ErrAnswer},
		"no UTF-8":      {CaptureOptions{Disk: "\xff"}, ErrRequest},
		"long name":     {CaptureOptions{Disk: strings.Repeat("x", 300)}, ErrRequest},
		"negative data": {CaptureOptions{Data: -1}, ErrRequest},
		"much data":     {CaptureOptions{Data: 4097}, ErrRequest},
		"too long":      {CaptureOptions{Length: 25 * time.Hour}, ErrRequest},
		"half a second": {CaptureOptions{Length: time.Second / 2}, ErrRequest},
	} {
		if err := c.PacketCapture(t.Context(), tt.o, more); !errors.Is(err, tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.PacketCapture(t.Context(), CaptureOptions{}, func(p Piece) error {
		if _, err := pcapng.Split(p.PCAPNG); err != nil || p.Records != 0 {
			t.Errorf("%+v", p)
		}
		return errEnough
	}); !errors.Is(err, errEnough) {
		t.Errorf("%v", err)
	}
}

func TestPacketCaptureRefused(t *testing.T) {
	for name, config := range map[string]server.Config{
		"storage": {Root: &part{}, Confidential: true, Debug: true, Capture: fakeCapture},
		"disks":   {Root: &part{}},
	} {
		path := filepath.Join(t.TempDir(), "s")
		start(t, path, config)
		err := dial(t, path).PacketCapture(t.Context(), CaptureOptions{}, func(Piece) error { return nil })
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
