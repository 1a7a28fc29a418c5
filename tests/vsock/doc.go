// Package vsock tests the launcher's vsock with a real QEMU: its VM is a VTL2 kernel
// whose /init is this package's test binary.
package vsock
