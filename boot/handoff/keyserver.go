package handoff

import (
	"fmt"
	"strconv"
	"strings"
)

// maxUnixPath is one less than the size of sun_path (unix(7)), in bytes.
const maxUnixPath = 107

// ParseKeyServer returns the network and address, as package net takes them, of a key
// server: HOST:PORT, or a Unix socket, whose path has a slash or, for an abstract name,
// begins with @. Its error is a *Failure.
func ParseKeyServer(s string) (network, address string, err error) {
	bad := func(cause string) (string, string, error) {
		return "", "", &Failure{Outcome: OutcomeUsage, Cause: "address of a key server: " + cause, Remedy: "use HOST:PORT, or the path of a Unix socket with a slash in it"}
	}
	if strings.Contains(s, "/") || strings.HasPrefix(s, "@") {
		if len(s) < 2 || len(s) > maxUnixPath || strings.Contains(s, "\x00") {
			return bad(fmt.Sprintf("a path of %d bytes; it has at most %d", len(s), maxUnixPath))
		}
		return "unix", s, nil
	}
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 {
		return bad(fmt.Sprintf("%.64q is none", s))
	}
	host := s[:colon]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") { // IPv6 has colons of its own
		host = strings.ReplaceAll(host[1:len(host)-1], ":", "")
	}
	if strings.ContainsAny(host, ":[]") {
		return bad(fmt.Sprintf("%.64q is no host", s[:colon]))
	}
	if _, err := strconv.ParseUint(s[colon+1:], 10, 16); err != nil {
		return bad(fmt.Sprintf("%.16q is no port", s[colon+1:]))
	}
	return "tcp", s, nil
}
