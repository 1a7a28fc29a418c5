package metrics

import (
	"testing"

	"keel/diag/inspect"
)

// machine is a tree with one field of each kind.
type machine struct{}

func (machine) Inspect(f *inspect.Fields) {
	f.Text("version", inspect.Public, "1.0 \"beta\"\n\x1b", "version of Keel")
	f.Uint("uptime", inspect.Public, inspect.Microseconds, 12_345_678, "time since power-on")
	f.Gauge("guest", inspect.Public, inspect.Bytes, 512<<20, `memory of the "guest"`)
	f.Bool("emulated", inspect.Public, true, "no hardware is behind it")
	f.Histogram("latency", inspect.Public, inspect.Microseconds, inspect.Histogram{Bounds: []uint64{1, 1000, 1_000_000}, Counts: []uint64{1, 0, 2, 4}}, "how long commits took")
	f.Each("exits", "kind", exits{}, "guest exits by kind")
	f.Each("vps", "vp", vps{}, "virtual processors")
	f.Node("empty", none{}, "nothing")
}

type exits struct{}

func (exits) Inspect(f *inspect.Fields) {
	f.Uint("msr-read", inspect.Public, inspect.Count, 3, "exits of this kind")
	f.Uint("pio", inspect.Public, inspect.Count, 7, "exits of this kind")
}

type vps struct{}

func (vps) Inspect(f *inspect.Fields) {
	f.Node("0", vp{1}, "a virtual processor")
	f.Node("1", vp{2}, "a virtual processor")
}

type vp struct{ n uint64 }

func (v vp) Inspect(f *inspect.Fields) {
	f.Uint("run", inspect.Public, inspect.Microseconds, v.n*500_000, "time that it ran")
	f.Uint("read_bytes", inspect.Public, inspect.Bytes, v.n, "bytes that it read")
	f.Each("exits", "kind", exits{}, "its exits")
	f.Histogram("size", inspect.Public, inspect.Count, inspect.Histogram{Bounds: []uint64{10}, Counts: []uint64{v.n, 1}}, "of something")
	f.Uint("odd name", inspect.Public, "furlongs", 1, "a unit of its own")
}

type none struct{}

func (none) Inspect(*inspect.Fields) {}

func TestText(t *testing.T) {
	root, err := inspect.Look(machine{}, "", 8)
	if err != nil {
		t.Fatal(err)
	}
	const want = `# TYPE keel_version info
# HELP keel_version version of Keel
keel_version_info{value="1.0 \"beta\"\n?"} 1
# TYPE keel_uptime_seconds counter
# UNIT keel_uptime_seconds seconds
# HELP keel_uptime_seconds time since power-on
keel_uptime_seconds_total 12.345678
# TYPE keel_guest_bytes gauge
# UNIT keel_guest_bytes bytes
# HELP keel_guest_bytes memory of the \"guest\"
keel_guest_bytes 536870912
# TYPE keel_emulated gauge
# HELP keel_emulated no hardware is behind it
keel_emulated 1
# TYPE keel_latency_seconds histogram
# UNIT keel_latency_seconds seconds
# HELP keel_latency_seconds how long commits took
keel_latency_seconds_bucket{le="0.000001"} 1
keel_latency_seconds_bucket{le="0.001"} 1
keel_latency_seconds_bucket{le="1"} 3
keel_latency_seconds_bucket{le="+Inf"} 7
# TYPE keel_exits counter
# HELP keel_exits exits of this kind
keel_exits_total{kind="msr-read"} 3
keel_exits_total{kind="pio"} 7
# TYPE keel_vps_run_seconds counter
# UNIT keel_vps_run_seconds seconds
# HELP keel_vps_run_seconds time that it ran
keel_vps_run_seconds_total{vp="0"} 0.5
keel_vps_run_seconds_total{vp="1"} 1
# TYPE keel_vps_read_bytes counter
# UNIT keel_vps_read_bytes bytes
# HELP keel_vps_read_bytes bytes that it read
keel_vps_read_bytes_total{vp="0"} 1
keel_vps_read_bytes_total{vp="1"} 2
# TYPE keel_vps_exits counter
# HELP keel_vps_exits exits of this kind
keel_vps_exits_total{vp="0",kind="msr-read"} 3
keel_vps_exits_total{vp="0",kind="pio"} 7
keel_vps_exits_total{vp="1",kind="msr-read"} 3
keel_vps_exits_total{vp="1",kind="pio"} 7
# TYPE keel_vps_size histogram
# HELP keel_vps_size of something
keel_vps_size_bucket{vp="0",le="10"} 1
keel_vps_size_bucket{vp="0",le="+Inf"} 2
keel_vps_size_bucket{vp="1",le="10"} 2
keel_vps_size_bucket{vp="1",le="+Inf"} 3
# TYPE keel_vps_odd_name counter
# HELP keel_vps_odd_name a unit of its own
keel_vps_odd_name_total{vp="0"} 1
keel_vps_odd_name_total{vp="1"} 1
# EOF
`
	if got := Text(&root); got != want {
		t.Errorf("%s", got)
	}
}
