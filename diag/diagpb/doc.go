// Package diagpb is the schema of the diagnostics service, package keel.diag.v1 of
// diag.proto, as Go: messages, and the two ends of the service for ttrpc.
package diagpb

//go:generate go run ../../boot/cmd/genpb .
