package deb

import (
	"errors"
	"path/filepath"
	"reflect"
	"testing"
)

func TestMirrors(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  []Mirror // nil: ErrSources
	}{
		{"one-line", map[string]string{"sources.list": `
# deb http://commented.example/debian bookworm main
deb http://m.example/debian/ bookworm main contrib # trailing
deb [arch=amd64 signed-by=/k.gpg] https://m.example/debian bookworm-updates main
deb-src http://src.example/debian bookworm main
deb http://s.example/debian-security bookworm-security main
deb http://old.example/debian-security buster/updates main
`}, []Mirror{{"http://m.example/debian", false}, {"https://m.example/debian", false}, {"http://s.example/debian-security", true}}},
		{"deb822", map[string]string{"sources.list.d/debian.sources": `Types: deb deb-src
# a comment between fields
URIs: http://m.example/debian
  http://n.example/debian
Suites: trixie trixie-updates
Components: main

Types: deb
URIs: http://s.example/debian-security
Suites: trixie-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main

Types: deb-src
URIs: http://src.example/debian
Suites: trixie
Components: main
`}, []Mirror{{"http://m.example/debian", false}, {"http://n.example/debian", false}, {"http://s.example/debian-security", true}}},
		{"third parties are left alone", map[string]string{
			"sources.list.d/a.list":    "deb https://docker.example/linux/debian bookworm stable\ndeb https://pg.example/apt bookworm-pgdg main\n",
			"sources.list.d/b.sources": "Types: deb\nURIs: https://node.example\nSuites: nodistro\nComponents: main\n",
			"sources.list.d/c.list":    "deb http://m.example/debian stable main\n",
		}, []Mirror{{"http://m.example/debian", false}}},
		{"mirror list of cloud images", map[string]string{
			"sources.list.d/debian.sources": "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: bookworm\nComponents: main\n",
			"mirrors/debian.list":           "https://cloud.example/debian\tpriority:1\n# none\nhttps://deb.example/debian\n",
		}, []Mirror{{"https://cloud.example/debian", false}, {"https://deb.example/debian", false}}},
		{"other transports", map[string]string{"sources.list": "deb cdrom:[x]/ bookworm main\ndeb file:/srv/debian bookworm main\ndeb [x http://m bookworm main\ndeb http://m\ndeb\n"}, nil},
		{"nothing", nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tc.files {
				put(t, filepath.Join(root, "etc/apt", name), text)
			}
			got, err := Mirrors(root)
			if tc.want == nil {
				if !errors.Is(err, ErrSources) {
					t.Errorf("got %v, %v, want ErrSources", got, err)
				}
			} else if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %v, %v\nwant %v", got, err, tc.want)
			}
		})
	}
}

// FuzzSources: whatever a file says, parsing ends and yields only http addresses.
func FuzzSources(f *testing.F) {
	f.Add("deb [a=b] http://m.example/debian bookworm main")
	f.Add("Types: deb\nURIs: http://m.example\n http://n\nSuites: trixie-security\nComponents: main\n\n:\n \n")
	f.Add(" continued: without field\n")
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		all := oneLine(root, text)
		for _, s := range deb822(text) {
			all = append(all, stanza(root, s)...)
		}
		for _, m := range all {
			if len(m.URI) < 5 || m.URI[:4] != "http" {
				t.Errorf("%q", m.URI)
			}
		}
	})
}
