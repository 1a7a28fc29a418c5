package server

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keel/diag/diagpb"
	"keel/diag/inspect"
)

// Setting is something that can be set while the paravisor runs.
type Setting struct {
	Name, Doc string
	// Values says in words which values there are.
	Values string
	// Get returns the value. It may be called from any goroutine.
	Get func() string
	// Set sets another value, one at a time. It is nil for what can only be read. The
	// error is ErrValue or ErrPolicy.
	Set func(value string) error
}

// Errors of Setting.Set. The cause is told to the client.
var (
	ErrValue  = errors.New("not a value of it")
	ErrPolicy = errors.New("the image's policy refuses it")
)

// maxValue bounds a value, in bytes.
const maxValue = 256

// message returns a setting as it is.
func (t *Setting) message() *diagpb.Setting {
	return &diagpb.Setting{Name: t.Name, Value: strings.ToValidUTF8(t.Get(), "?"), Values: t.Values, Doc: t.Doc, ReadOnly: t.Set == nil}
}

// Settings lists the settings.
func (s logs) Settings(context.Context, *diagpb.SettingsRequest) (*diagpb.SettingsResponse, error) {
	r := &diagpb.SettingsResponse{}
	for i := range s.config.Logs.Settings {
		r.Settings = append(r.Settings, s.config.Logs.Settings[i].message())
	}
	return r, nil
}

// Update sets a setting.
func (s logs) Update(_ context.Context, r *diagpb.UpdateRequest) (*diagpb.UpdateResponse, error) {
	name, value := r.GetName(), r.GetValue()
	if len(name) > MaxPath || len(value) > maxValue {
		return nil, status.Errorf(codes.InvalidArgument, "a name or value of %d bytes: at most %d and %d are read", max(len(name), len(value)), MaxPath, maxValue)
	}
	for i := range s.config.Logs.Settings {
		t := &s.config.Logs.Settings[i]
		if t.Name != name {
			continue
		}
		if t.Set == nil {
			return nil, status.Errorf(codes.FailedPrecondition, "%s can only be read", name)
		}
		s.setting.Lock()
		err := t.Set(value)
		s.setting.Unlock()
		switch {
		case errors.Is(err, ErrPolicy):
			return nil, status.Errorf(codes.PermissionDenied, "%s: %v", name, err)
		case err != nil:
			return nil, status.Errorf(codes.InvalidArgument, "%s is %s: %v", name, t.Values, err)
		}
		s.config.Log.Info("a diagnostics client changed a setting", inspect.PublicAttr("name", name), inspect.PublicAttr("value", t.Get()))
		return &diagpb.UpdateResponse{Setting: t.message()}, nil
	}
	if _, err := inspect.Look(s.config.Root, name, 0); err == nil && name != "" {
		return nil, status.Errorf(codes.FailedPrecondition, "%s is a part of the state, which can only be read", name)
	}
	return nil, status.Errorf(codes.NotFound, "there is no setting %q", name)
}

// Settings are what can be set, and a node of the state tree.
type Settings []Setting

// Inspect writes how everything is set. The settings are Keel's own, and as the host
// wants them.
func (t Settings) Inspect(f *inspect.Fields) {
	for i := range t {
		f.Text(t[i].Name, inspect.Public, t[i].Get(), t[i].Doc)
	}
}
