// Package vfio holds the numbers and layouts of Linux's VFIO interface, generated
// from <linux/vfio.h> and spelled as that header spells them. Structures that have
// grown over the years are given as offsets: their first fields never move.
//
// Specification: Documentation/driver-api/vfio.rst of the Linux kernel.
package vfio

//go:generate sh generate.sh
