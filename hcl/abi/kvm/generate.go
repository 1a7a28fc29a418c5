// Package kvm holds the numbers and layouts of Linux's KVM interface, generated
// from <linux/kvm.h> and spelled as that header spells them.
//
// Specification: Documentation/virt/kvm/api.rst of the Linux kernel.
package kvm

//go:generate sh generate.sh
