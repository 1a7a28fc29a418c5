package gdb

import (
	"bufio"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"keel/vtl"
)

// session is a client of a stub.
type session struct {
	t      *testing.T
	target *fakeTarget
	conn   net.Conn
	in     *bufio.Reader
	ended  chan error
}

func newSession(t *testing.T) *session {
	t.Helper()
	ours, theirs := net.Pipe()
	s := &session{t: t, target: newFake(), conn: ours, in: bufio.NewReader(ours), ended: make(chan error, 1)}
	ours.SetDeadline(time.Now().Add(time.Minute))
	go func() {
		s.ended <- Serve(context.Background(), theirs, s.target)
		theirs.Close()
	}()
	t.Cleanup(func() { ours.Close() })
	return s
}

func (s *session) send(b string) {
	s.t.Helper()
	if _, err := io.WriteString(s.conn, b); err != nil {
		s.t.Fatal(err)
	}
}

// reply reads a packet, and what acknowledges the one before it.
func (s *session) reply() string {
	s.t.Helper()
	x, err := next(s.in)
	if err != nil || x.kind != kindPacket {
		s.t.Fatalf("%+v, %v", x, err)
	}
	return x.data
}

// ask sends a packet and returns the reply.
func (s *session) ask(data string) string {
	s.t.Helper()
	s.send(string(frame(data)))
	return s.reply()
}

func (s *session) want(data, reply string) {
	s.t.Helper()
	if got := s.ask(data); got != reply {
		s.t.Errorf("%s: %q, want %q", data, got, reply)
	}
}

func TestPackets(t *testing.T) {
	s := newSession(t)
	for data, want := range map[string]string{
		"?":                                    "T05thread:1;",
		"qAttached":                            "1",
		"qC":                                   "QC1",
		"qfThreadInfo":                         "m1,2",
		"qsThreadInfo":                         "l",
		"qThreadExtraInfo,2":                   "565020312c2068616c746564", // VP 1, halted
		"qThreadExtraInfo,3":                   replyInvalid,
		"T2":                                   replyOK,
		"T3":                                   replyInvalid,
		"Hc-1":                                 replyOK,
		"H":                                    replyInvalid,
		"Hg7":                                  replyInvalid,
		"vCont?":                               "vCont;c;C;s;S",
		"vMustReplyEmpty":                      "",
		"vCont;x":                              replyInvalid,
		"vCont;c:9":                            replyInvalid,
		"qXfer:features:read:other.xml:0,10":   "",
		"qXfer:features:read:target.xml:zz,10": replyInvalid,
		"p0":                                   "8877665544332211",
		"p10":                                  "00000081ffffffff",
		"p11":                                  "46020000",
		"p12":                                  "10000000",
		"p18":                                  "xxxxxxxxxxxxxxxxxxxx", // st0
		"p99":                                  replyInvalid,
		"P18=00000000000000000000":             replyInvalid,
		"P12=23000000":                         replyInvalid,
		"P0=00":                                replyInvalid,
		"mffffffff81000010,4":                  "10111213",
		"mffffffff81002ffe,4":                  "feff",
		"m0,4":                                 replyFault,
		"mffffffff81000000,801":                replyInvalid,
		"m,":                                   replyInvalid,
		"Mffffffff81000010,2:zz":               replyInvalid,
		"Mffffffff81000010,2:00":               replyInvalid,
		"M0,1:00":                              replyFault,
		"Z0,0,1":                               replyFault,
		"Z2,ffffffff81000000,8":                "", // watchpoints
		"Z":                                    replyInvalid,
		"Z0,x,1":                               replyInvalid,
		"X0,0:":                                "",
		"qRcmd,00":                             "",
	} {
		s.want(data, want)
	}
	if got := s.ask("qSupported:xmlRegisters=i386"); !strings.Contains(got, "PacketSize=1000;") {
		t.Errorf("%q", got)
	}
}

// TestDescription reads the target description in pieces.
func TestDescription(t *testing.T) {
	s := newSession(t)
	var all string
	for more := true; more; {
		part := s.ask("qXfer:features:read:target.xml:" + hexOf(len(all)) + ",ffb")
		more = part[0] == 'm'
		all += part[1:]
	}
	var target struct {
		Features []struct {
			Name      string `xml:"name,attr"`
			Registers []struct {
				Name string `xml:"name,attr"`
				Bits int    `xml:"bitsize,attr"`
			} `xml:"reg"`
		} `xml:"feature"`
	}
	d := xml.NewDecoder(strings.NewReader(all))
	if err := d.Decode(&target); err != nil || all != description {
		t.Fatalf("%v: %s", err, all)
	}
	n, digits := 0, 0
	for _, f := range target.Features {
		for _, r := range f.Registers {
			if registers[n].name != r.Name {
				t.Errorf("register %d is %s, want %s", n, r.Name, registers[n].name)
			}
			n++
			digits += r.Bits / 4
		}
	}
	if got := s.ask("g"); n != len(registers) || len(got) != digits {
		t.Errorf("%d registers, %d digits of them; g has %d", n, digits, len(got))
	}
}

func hexOf(n int) string {
	const digits = "0123456789abcdef"
	if n < 16 {
		return digits[n : n+1]
	}
	return hexOf(n/16) + digits[n%16:n%16+1]
}

func TestWrites(t *testing.T) {
	s := newSession(t)
	s.want("Hg2", replyOK)
	s.want("P0=0102030405060708", replyOK)
	s.want("P11=02000000", replyOK)
	s.want("P29=0000000000000080", replyOK)
	s.want("Mffffffff81000010,2:abcd", replyOK)
	vp := &s.target.vps[1]
	if vp.general.RAX != 0x0807060504030201 || vp.general.RFLAGS != 2 || vp.special.GS.Base != 1<<63 || s.target.memory[0x10] != 0xab || s.target.memory[0x11] != 0xcd {
		t.Errorf("%+v", vp)
	}
	// All at once, as they were read but for one.
	all := s.ask("g")
	before := *vp
	s.want("G"+strings.Repeat("0", 16)+all[16:], replyOK)
	if before.general.RAX = 0; *vp != before {
		t.Errorf("%+v, want %+v", *vp, before)
	}
	s.want("G"+all[:len(all)-1], replyInvalid)
	s.want("G", replyInvalid)
}

func TestBreakpoints(t *testing.T) {
	s := newSession(t)
	const at = memoryAt + 0x10
	s.want("Z0,ffffffff81000010,1", replyOK)
	s.want("Z1,ffffffff81000010,1", replyOK)
	s.want("z0,ffffffff81000010,1", replyOK)
	if !slices.Equal(s.target.breaks, []uint64{at}) {
		t.Errorf("%x", s.target.breaks)
	}
	s.want("z1,ffffffff81000010,1", replyOK)
	s.want("z1,ffffffff81000010,1", replyOK) // there is none any more
	if len(s.target.breaks) != 0 {
		t.Errorf("%x", s.target.breaks)
	}
}

func TestGoesOn(t *testing.T) {
	s := newSession(t)
	stay, run, step := vtl.ActionStay, vtl.ActionRun, vtl.ActionStep
	for _, tt := range []struct {
		packet string
		want   []vtl.Action
	}{
		{"c", []vtl.Action{run, run}},
		{"C05", []vtl.Action{run, run}},
		{"s", []vtl.Action{step, stay}},
		{"vCont;c", []vtl.Action{run, run}},
		{"vCont;s:2;c", []vtl.Action{run, step}},
		{"vCont;s:2", []vtl.Action{stay, step}},
		{"vCont;C05:1;s:-1", []vtl.Action{run, step}},
	} {
		s.want("Hg1", replyOK)
		s.send(string(frame(tt.packet)))
		s.target.stops <- 1
		if got := s.reply(); got != "T05thread:2;" || s.target.runs || !slices.Equal(s.target.actions, tt.want) {
			t.Errorf("%s: %q, %v, want %v", tt.packet, got, s.target.actions, tt.want)
		}
		s.want("?", "T05thread:2;")
		s.want("p10", "01000081ffffffff") // of the VP that stopped
	}
	s.send(string(frame("c")))
	s.send("\x03")
	if got := s.reply(); got != "T02thread:2;" {
		t.Errorf("%q", got)
	}
	s.send("\x03") // it stands already
	// A packet stops the guest, too.
	s.send(string(frame("c")))
	s.want("p10", "01000081ffffffff")
	if s.target.runs {
		t.Error("the guest runs while it is looked at")
	}
}

func TestDetach(t *testing.T) {
	for _, packet := range []string{"D", "D;1", "k"} {
		s := newSession(t)
		if got := s.ask(packet); packet != "k" && got != replyOK {
			t.Errorf("%q", got)
		}
		if err := <-s.ended; err != nil {
			t.Error(err)
		}
	}
	s := newSession(t)
	s.want("?", "T05thread:1;")
	s.conn.Close()
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

// TestAcks: damaged packets are asked for again, and replies sent again.
func TestAcks(t *testing.T) {
	s := newSession(t)
	s.send("$?#00")
	if b, err := s.in.ReadByte(); err != nil || b != nack {
		t.Errorf("%c, %v", b, err)
	}
	s.send("$?#3f")
	if b, err := s.in.ReadByte(); err != nil || b != ack {
		t.Errorf("%c, %v", b, err)
	}
	first := s.reply()
	s.send("-")
	if again := s.reply(); again != first {
		t.Errorf("%q, then %q", first, again)
	}
	s.want("QStartNoAckMode", replyOK)
	s.send(string(frame("?")))
	if b, err := s.in.ReadByte(); err != nil || b != packetStart {
		t.Errorf("%c, %v", b, err)
	}
	s.in.UnreadByte()
	s.reply()
	s.send("$?#00")
	if err := <-s.ended; !errors.Is(err, errPacket) {
		t.Errorf("%v", err)
	}
}

func TestRefusedClients(t *testing.T) {
	for name, sent := range map[string]string{
		"no packet": "GET / HTTP/1.1\r\n",
		"too long":  "$" + strings.Repeat("m", PacketSize+1),
		"half":      "$m12",
	} {
		s := newSession(t)
		go func() {
			io.WriteString(s.conn, sent)
			if name == "half" {
				s.conn.Close()
			}
		}()
		if err := <-s.ended; !errors.Is(err, errPacket) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := newSession(t)
	s.target.broken = errors.New("broken")
	go io.Copy(io.Discard, s.in) // the acknowledgement
	s.send(string(frame("g")))
	if err := <-s.ended; !errors.Is(err, s.target.broken) {
		t.Errorf("%v", err)
	}
}

// FuzzServe lets a client send whatever it likes: the stub ends when the client has, and
// sends packets only.
func FuzzServe(f *testing.F) {
	for _, s := range []string{
		"?", "g", "Hg2", "p0", "P0=0011223344556677", "mffffffff81000000,10", "Mffffffff81000000,2:aabb", "Z0,ffffffff81000000,1", "z0,ffffffff81000000,1",
		"c", "vCont;s:1;c", "qSupported", "qXfer:features:read:target.xml:0,fff", "QStartNoAckMode", "D", "k", "}\x03",
	} {
		f.Add(append(frame("?"), frame(s)...))
	}
	f.Add([]byte("$c#63\x03$g#67-"))
	f.Add([]byte("$#00"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := net.Pipe()
		target := newFake()
		target.stops <- 1
		done := make(chan error, 1)
		go func() {
			done <- Serve(t.Context(), theirs, target)
			theirs.Close()
		}()
		go func() {
			ours.SetDeadline(time.Now().Add(10 * time.Second))
			ours.Write(sent)
			ours.Write([]byte{0xff}) // the end of it, one way or another
			ours.Write([]byte("#00\xff"))
			ours.Write([]byte("00\xff"))
		}()
		in := bufio.NewReader(ours)
		for {
			x, err := next(in)
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("%v", err)
				}
				break
			}
			if x.kind == kindDamaged || x.kind == kindInterrupt || len(x.data) > PacketSize {
				t.Errorf("%+v", x)
			}
		}
		<-done
	})
}
