package boot

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/containerd/ttrpc"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"keel/boot/handoff"
	"keel/diag/diagpb"
	"keel/diag/owner"
	"keel/diag/vsock"
	"keel/tests/boot/marker"
)

// diagOwner is the owner of an image.
type diagOwner struct {
	id              *age.X25519Identity
	key             ed25519.PrivateKey
	idFile, keyFile string
	flags           []string // of keel image build
}

func newOwner(t *testing.T) *diagOwner {
	t.Helper()
	o := &diagOwner{}
	var err error
	if o.id, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	if _, o.key, err = ed25519.GenerateKey(nil); err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(o.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	private, err := ssh.MarshalPrivateKey(o.key, "")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	o.idFile, o.keyFile = filepath.Join(dir, "identity"), filepath.Join(dir, "owner")
	for file, text := range map[string][]byte{
		o.idFile: []byte(o.id.String() + "\n"), o.keyFile: pem.EncodeToMemory(private), o.keyFile + ".pub": ssh.MarshalAuthorizedKey(public),
	} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o.flags = []string{"--owner-recipient", o.id.Recipient().String(), "--owner-signer", o.keyFile + ".pub"}
	return o
}

// need is what a confidential guest of an owner wants for a call.
type need int

const (
	needNothing need = iota // whoever asks is answered, with what is public
	needOther               // another guest: whoever asks is refused
	needSigned              // the owner's signature
	needSealed              // nothing, but the answer is encrypted to the owner
)

// secretCalls has every method, in the order in which they are called.
var secretCalls = []struct {
	method  string
	request proto.Message
	need    need
	shows   []marker.Place // once it is decrypted
}{
	{method: "Diag/Ping", request: &diagpb.PingRequest{}},
	{method: "Diag/Inspect", request: &diagpb.InspectRequest{Depth: 16}},
	{method: "Diag/Attest", request: &diagpb.AttestRequest{Nonce: make([]byte, 32)}},
	{method: "Logs/Watch", request: &diagpb.WatchRequest{What: &diagpb.InspectRequest{Depth: 16}}},
	{method: "Logs/Logs", request: &diagpb.LogsRequest{}},
	{method: "Logs/Kmsg", request: &diagpb.KmsgRequest{}, need: needOther},
	{method: "Logs/Metrics", request: &diagpb.MetricsRequest{}},
	{method: "Logs/Settings", request: &diagpb.SettingsRequest{}},
	{method: "Logs/Update", request: &diagpb.UpdateRequest{Name: "gc_percent", Value: "30"}, need: needSigned},
	{method: "Owner/Nonce", request: &diagpb.NonceRequest{}},
	{method: "Owner/Journal", request: &diagpb.JournalRequest{}, need: needSealed},

	{method: "Programs/Exec", request: &diagpb.ExecRequest{Args: []string{"/bin/paravisor"}}, need: needOther},
	{method: "Programs/Input", request: &diagpb.InputRequest{}, need: needOther},
	{method: "Programs/Resize", request: &diagpb.ResizeRequest{}, need: needOther},
	{method: "Programs/Signal", request: &diagpb.SignalRequest{}, need: needOther},
	{method: "Programs/ReadFile", request: &diagpb.ReadFileRequest{Path: "/proc/self/mem"}, need: needOther},
	{method: "Programs/Profile", request: &diagpb.ProfileRequest{Kind: "goroutine"}},
	{method: "Programs/Trace", request: &diagpb.TraceRequest{Milliseconds: 200}, need: needSealed},
	{method: "Programs/CoreDump", request: &diagpb.CoreDumpRequest{Process: "paravisor"}, need: needSealed},
	{method: "Programs/Restart", request: &diagpb.RestartRequest{Worker: "tpm"}, need: needSigned},
	{method: "Programs/Console", request: &diagpb.ConsoleRequest{Port: 1}, need: needOther},
	{method: "Programs/ConsoleInput", request: &diagpb.ConsoleInputRequest{}, need: needOther},

	{method: "Capture/PacketCapture", request: &diagpb.PacketCaptureRequest{DataBytes: 4096, Seconds: 3}, need: needSealed, shows: []marker.Place{marker.Disk}},

	{method: "Control/NMI", request: &diagpb.NMIRequest{}, need: needSigned},
	{method: "Control/Pause", request: &diagpb.PauseRequest{}, need: needSigned},
	{method: "Control/GuestDump", request: &diagpb.GuestDumpRequest{}, need: needSealed, shows: []marker.Place{marker.Memory, marker.Registers}},
	{method: "Control/Resume", request: &diagpb.ResumeRequest{}, need: needSigned},
	{method: "Control/ExitTrace", request: &diagpb.ExitTraceRequest{DurationMs: 100}, need: needOther},
	{method: "Control/Debug", request: &diagpb.DebugRequest{}, need: needOther},
	{method: "Control/Reset", request: &diagpb.ResetRequest{}, need: needSigned}, // the secrets go
	{method: "Control/Shutdown", request: &diagpb.ShutdownRequest{Force: true}, need: needSigned},
}

// schema returns the methods of the diagnostics.
func schema() map[string]protoreflect.MethodDescriptor {
	all := map[string]protoreflect.MethodDescriptor{}
	protoregistry.GlobalFiles.RangeFilesByPackage(diagpb.File_diag_proto.Package(), func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				all[fmt.Sprintf("%s/%s", s.Name(), s.Methods().Get(j).Name())] = s.Methods().Get(j)
			}
		}
		return true
	})
	return all
}

// TestSecretCalls: no method is forgotten.
func TestSecretCalls(t *testing.T) {
	methods := schema()
	for _, c := range secretCalls {
		if methods[c.method] == nil {
			t.Errorf("%s is called twice, or is no method", c.method)
		}
		delete(methods, c.method)
	}
	for name := range methods {
		t.Errorf("%s is not called", name)
	}
}

// TestSecrets: a confidential guest has secrets in its memory, its registers, its TPM and on
// its disk. Every call of the diagnostics is made. None of the secrets is in anything that
// crosses vsock, in the console, in a log or in the report; what is encrypted to the owner
// has them.
func TestSecrets(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	v := startSecrets(t, o)
	// The search finds what crosses.
	console := marker.Of(v.seed, marker.Console)
	v.call(t, "Diag/Attest", &diagpb.AttestRequest{Nonce: console[:]}, needNothing, nil)
	v.commands(t)
	for _, c := range secretCalls {
		v.call(t, c.method, c.request, c.need, c.shows)
	}
	v.run.Wait(t, handoff.OutcomeForcedOff) // as the last call has asked
	for _, file := range append(v.run.Outputs(), v.tap.record.Name(), v.state) {
		for place, n := range v.find(t, file) {
			if place != marker.Console {
				t.Errorf("%d pieces of the secret in %s are in %s", n, place, file)
			}
		}
	}
	// The request has the nonce, and so has the evidence, in base64.
	if n := v.find(t, v.tap.record.Name())[marker.Console]; n < 2*marker.Size/8 {
		t.Errorf("%d pieces of what was sent through vsock", n)
	}
	if n := v.find(t, v.run.Outputs()[0])[marker.Console]; n == 0 {
		t.Error("nothing of what the guest said on its console")
	}
}

// commands uses the tool as the owner does.
func (v *secretVM) commands(t *testing.T) {
	t.Helper()
	vm, key, dir := v.tap.path, v.owner.keyFile, t.TempDir()
	for _, args := range [][]string{{"pause", vm}, {"pause", vm, "--owner-key", key, "--instance", strings.Repeat("00", 15) + "01"}} {
		if said := keelTool(t, handoff.OutcomeBadConfig, append([]string{"diag"}, args...)...); !strings.Contains(said, "rule guest-state refuses Control/Pause") {
			t.Errorf("%q: %s", args, said)
		}
	}
	var evidence struct {
		Claim struct{ Instance owner.Instance }
	}
	if err := json.Unmarshal([]byte(keelTool(t, handoff.OutcomePoweroff, "attest", vm, "--any-image", "--allow-emulated", "--json")), &evidence); err != nil {
		t.Fatal(err)
	}
	instance := hex.EncodeToString(evidence.Claim.Instance[:])
	for _, c := range [][2]string{{"pause", "paused\n"}, {"resume", "runs\n"}} {
		if said := keelTool(t, handoff.OutcomePoweroff, "diag", c[0], vm, "--owner-key", key, "--instance", instance); said != c[1] {
			t.Errorf("%s: %q", c[0], said)
		}
	}
	journal := filepath.Join(dir, "journal")
	keelTool(t, handoff.OutcomePoweroff, "diag", "journal", vm, "-o", journal)
	keelTool(t, handoff.OutcomePoweroff, "diag", "open", "--identity", v.owner.idFile, journal+".age", journal)
	text, err := os.ReadFile(journal)
	if err != nil || !bytes.Contains(text, []byte(`"from":"kernel"`)) || !bytes.Contains(text, []byte(`"from":"paravisor"`)) {
		t.Errorf("%v\n%s", err, text)
	}
}

// find looks for markers in a file.
func (v *secretVM) find(t *testing.T, path string) map[marker.Place]int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found, err := marker.Find(f, v.seed, append(slices.Clone(marker.Hidden), marker.Console)...)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// call makes a call as somebody on the host, and as the owner, if that makes a difference.
func (v *secretVM) call(t *testing.T, method string, request proto.Message, n need, shows []marker.Place) {
	t.Helper()
	want := codes.OK
	if n == needOther || n == needSigned {
		want = codes.PermissionDenied
	}
	data, err := v.make(t, method, request, nil)
	if status.Code(err) != want {
		t.Errorf("%s: %v", method, err)
	}
	switch {
	case n == needSigned:
		if _, err := v.make(t, method, request, v.owner.key); err != nil {
			t.Errorf("%s, signed: %v", method, err)
		}
	case n == needSealed && err == nil:
		r, err := age.Decrypt(bytes.NewReader(data), v.owner.id)
		if err != nil {
			t.Errorf("%s: %v", method, err)
			return
		}
		found, err := marker.Find(r, v.seed, marker.Hidden...)
		if err != nil {
			t.Errorf("%s: %v", method, err)
		}
		t.Logf("%s: %d bytes; pieces of secrets in it: %v", method, len(data), found)
		for _, place := range shows {
			if found[place] == 0 {
				t.Errorf("%s: decrypted, it has nothing of the secret in %s", method, place)
			}
		}
	}
}

// looks is how many answers are taken of a stream that does not end by itself.
const looks = 3

// make makes a call through the tap, signed with a key unless that is nil. It returns the
// data of a stream.
func (v *secretVM) make(t *testing.T, method string, request proto.Message, key ed25519.PrivateKey) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	raw, err := vsock.Dial(ctx, v.tap.path, handoff.VsockDiag)
	if err != nil {
		t.Fatal(err)
	}
	conn := ttrpc.NewClient(raw)
	defer conn.Close()
	service, name, _ := strings.Cut("keel.diag.v1."+method, "/")
	m := schema()[method]
	kind, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	if err != nil {
		t.Fatal(err)
	}
	if key != nil {
		ctx = v.sign(ctx, t, conn, service+"/"+name, request, key)
	}
	if !m.IsStreamingServer() {
		return nil, conn.Call(ctx, service, name, request, kind.New().Interface())
	}
	s, err := conn.NewStream(ctx, &ttrpc.StreamDesc{StreamingServer: true}, service, name, request)
	if err != nil {
		return nil, err
	}
	var data []byte
	for n := 0; ; n++ {
		answer := kind.New()
		switch err := s.RecvMsg(answer.Interface()); {
		case errors.Is(err, io.EOF):
			return data, nil
		case err != nil:
			return data, err
		}
		piece := pieceOf(answer)
		if data = append(data, piece...); len(piece) == 0 && n == looks {
			return data, nil
		}
	}
}

// pieceOf returns the data of an answer.
func pieceOf(m protoreflect.Message) (data []byte) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Kind() == protoreflect.BytesKind && !f.IsList() {
			data = v.Bytes()
		}
		return true
	})
	return data
}

// sign returns a context whose call is signed.
func (v *secretVM) sign(ctx context.Context, t *testing.T, conn *ttrpc.Client, method string, request proto.Message, key ed25519.PrivateKey) context.Context {
	t.Helper()
	nonce, err := diagpb.NewOwnerClient(conn).Nonce(ctx, &diagpb.NonceRequest{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	s := owner.Statement{
		Instance: owner.Instance(nonce.GetInstance()), Nonce: owner.Nonce(nonce.GetNonce()), Request: sha256.Sum256(b), Method: method,
	}
	md := ttrpc.MD{}
	md.Set(owner.Metadata, s.Sign(key))
	return ttrpc.WithMetadata(ctx, md)
}
