package qemu

import (
	"errors"
	"testing"

	"keel/boot/handoff"
)

func TestParseMemory(t *testing.T) {
	good := map[string]uint64{
		"512M": 512 << 20, "1G": 1 << 30, "2g": 2 << 30, "64": 64 << 20, "65536k": 64 << 20, "1T": 1 << 40, "0": 0,
	}
	for s, want := range good {
		if got, err := ParseMemory(s); err != nil || got != want {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "M", "-1M", "1.5G", "1GB", "1 G", "M1", "99999999999G", "0x10M", "18446744073709551615K"} {
		if got, err := ParseMemory(s); OutcomeOf(err) != handoff.OutcomeUsage {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
}

func TestValidate(t *testing.T) {
	tests := map[string]struct {
		change func(*Options)
		want   handoff.Outcome
	}{
		"no VP":             {func(o *Options) { o.VPs = 0 }, handoff.OutcomeBadVPCount},
		"negative VPs":      {func(o *Options) { o.VPs = -1 }, handoff.OutcomeBadVPCount},
		"too many VPs":      {func(o *Options) { o.VPs = MaxVPs + 1 }, handoff.OutcomeBadVPCount},
		"little memory":     {func(o *Options) { o.Memory = MinMemory - memoryUnit }, handoff.OutcomeTooLittleMemory},
		"odd memory":        {func(o *Options) { o.Memory = MinMemory + 1<<20 }, handoff.OutcomeUsage},
		"much memory":       {func(o *Options) { o.Memory = MaxMemory + memoryUnit }, handoff.OutcomeUsage},
		"no name":           {func(o *Options) { o.Name = "" }, handoff.OutcomeUsage},
		"name with comma":   {func(o *Options) { o.Name = "a,debug-threads=on" }, handoff.OutcomeUsage},
		"unknown accel":     {func(o *Options) { o.Accel = "hvf" }, handoff.OutcomeUsage},
		"unknown loader":    {func(o *Options) { o.Loader = "uefi" }, handoff.OutcomeUsage},
		"negative time":     {func(o *Options) { o.Timeout = -1 }, handoff.OutcomeUsage},
		"no console":        {func(o *Options) { o.Console = "" }, handoff.OutcomeUsage},
		"sixteen VPs, good": {func(o *Options) { o.VPs = MaxVPs }, handoff.OutcomePoweroff},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := fakeOptions()
			tt.change(o)
			err := o.Validate()
			if tt.want == handoff.OutcomePoweroff {
				if err != nil {
					t.Error(err)
				}
				return
			}
			f, ok := errors.AsType[*handoff.Failure](err)
			if !ok || f.Outcome != tt.want || f.Cause == "" || f.Remedy == "" {
				t.Errorf("%+v", err)
			}
		})
	}
}

func TestOutcomeOf(t *testing.T) {
	if o := OutcomeOf(errors.New("anything")); o != handoff.OutcomeInternal {
		t.Error(o)
	}
	if o := OutcomeOf(errors.Join(nil, failure(handoff.OutcomeTimeout, "", ""))); o != handoff.OutcomeTimeout {
		t.Error(o)
	}
}

func TestImageReserve(t *testing.T) {
	for image, want := range map[int64]uint64{5: 0, 16 << 20: 0, 16<<20 + 1: 1 << 20, 26 << 20: 20 << 20} {
		if got := imageReserve(image); got != want {
			t.Errorf("%d bytes: %d, want %d", image, got, want)
		}
	}
}
