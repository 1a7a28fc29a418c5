//go:build ignore

// This file is the input of `go tool cgo -godefs`; see generate.go.

package vfio

/*
#include <stddef.h>
#include <linux/vfio.h>

enum {
	off_argsz = offsetof(struct vfio_region_info, argsz),
	off_flags = offsetof(struct vfio_region_info, flags),

	off_cap_id = offsetof(struct vfio_info_cap_header, id),
	off_cap_version = offsetof(struct vfio_info_cap_header, version),
	off_cap_next = offsetof(struct vfio_info_cap_header, next),
	size_cap_header = sizeof(struct vfio_info_cap_header),

	off_device_irqs = offsetof(struct vfio_device_info, num_irqs),

	off_region_index = offsetof(struct vfio_region_info, index),
	off_region_cap = offsetof(struct vfio_region_info, cap_offset),
	off_region_size = offsetof(struct vfio_region_info, size),
	off_region_offset = offsetof(struct vfio_region_info, offset),
	size_region_info = sizeof(struct vfio_region_info),

	off_sparse_count = offsetof(struct vfio_region_info_cap_sparse_mmap, nr_areas),
	off_sparse_areas = offsetof(struct vfio_region_info_cap_sparse_mmap, areas),
	off_area_offset = offsetof(struct vfio_region_sparse_mmap_area, offset),
	off_area_size = offsetof(struct vfio_region_sparse_mmap_area, size),
	size_area = sizeof(struct vfio_region_sparse_mmap_area),

	off_irq_index = offsetof(struct vfio_irq_info, index),
	off_irq_count = offsetof(struct vfio_irq_info, count),
	size_irq_info = sizeof(struct vfio_irq_info),

	off_set_index = offsetof(struct vfio_irq_set, index),
	off_set_start = offsetof(struct vfio_irq_set, start),
	off_set_count = offsetof(struct vfio_irq_set, count),
	off_set_data = offsetof(struct vfio_irq_set, data),

	size_group_status = sizeof(struct vfio_group_status),

	off_iommu_pgsizes = offsetof(struct vfio_iommu_type1_info, iova_pgsizes),
	off_iommu_cap = offsetof(struct vfio_iommu_type1_info, cap_offset),

	off_iova_count = offsetof(struct vfio_iommu_type1_info_cap_iova_range, nr_iovas),
	off_iova_ranges = offsetof(struct vfio_iommu_type1_info_cap_iova_range, iova_ranges),
	off_range_start = offsetof(struct vfio_iova_range, start),
	off_range_end = offsetof(struct vfio_iova_range, end),
	size_range = sizeof(struct vfio_iova_range),

	off_avail = offsetof(struct vfio_iommu_type1_info_dma_avail, avail),
};
*/
import "C"

// Structures that ioctls exchange and that never changed.
type (
	DMAMap   C.struct_vfio_iommu_type1_dma_map
	DMAUnmap C.struct_vfio_iommu_type1_dma_unmap
)

// Sizes of these structures, for their argsz.
const (
	SizeofDMAMap   = C.sizeof_struct_vfio_iommu_type1_dma_map
	SizeofDMAUnmap = C.sizeof_struct_vfio_iommu_type1_dma_unmap
)

// Requests of the container, /dev/vfio/vfio.
const (
	API_VERSION     = C.VFIO_API_VERSION
	GET_API_VERSION = C.VFIO_GET_API_VERSION
	CHECK_EXTENSION = C.VFIO_CHECK_EXTENSION
	SET_IOMMU       = C.VFIO_SET_IOMMU
	IOMMU_GET_INFO  = C.VFIO_IOMMU_GET_INFO
	IOMMU_MAP_DMA   = C.VFIO_IOMMU_MAP_DMA
	IOMMU_UNMAP_DMA = C.VFIO_IOMMU_UNMAP_DMA

	TYPE1v2_IOMMU = C.VFIO_TYPE1v2_IOMMU
)

// Requests of groups, /dev/vfio/N.
const (
	GROUP_GET_STATUS      = C.VFIO_GROUP_GET_STATUS
	GROUP_SET_CONTAINER   = C.VFIO_GROUP_SET_CONTAINER
	GROUP_UNSET_CONTAINER = C.VFIO_GROUP_UNSET_CONTAINER
	GROUP_GET_DEVICE_FD   = C.VFIO_GROUP_GET_DEVICE_FD

	GROUP_FLAGS_VIABLE = C.VFIO_GROUP_FLAGS_VIABLE
)

// Requests of devices.
const (
	DEVICE_GET_INFO        = C.VFIO_DEVICE_GET_INFO
	DEVICE_GET_REGION_INFO = C.VFIO_DEVICE_GET_REGION_INFO
	DEVICE_GET_IRQ_INFO    = C.VFIO_DEVICE_GET_IRQ_INFO
	DEVICE_SET_IRQS        = C.VFIO_DEVICE_SET_IRQS
	DEVICE_RESET           = C.VFIO_DEVICE_RESET

	DEVICE_FLAGS_RESET = C.VFIO_DEVICE_FLAGS_RESET
	DEVICE_FLAGS_PCI   = C.VFIO_DEVICE_FLAGS_PCI
)

// Flags and capabilities of regions, and their indices of PCI functions.
const (
	REGION_INFO_FLAG_READ       = C.VFIO_REGION_INFO_FLAG_READ
	REGION_INFO_FLAG_WRITE      = C.VFIO_REGION_INFO_FLAG_WRITE
	REGION_INFO_FLAG_MMAP       = C.VFIO_REGION_INFO_FLAG_MMAP
	REGION_INFO_FLAG_CAPS       = C.VFIO_REGION_INFO_FLAG_CAPS
	REGION_INFO_CAP_SPARSE_MMAP = C.VFIO_REGION_INFO_CAP_SPARSE_MMAP

	PCI_BAR0_REGION_INDEX   = C.VFIO_PCI_BAR0_REGION_INDEX
	PCI_CONFIG_REGION_INDEX = C.VFIO_PCI_CONFIG_REGION_INDEX
)

// Flags of interrupts, and their indices of PCI functions.
const (
	IRQ_INFO_EVENTFD       = C.VFIO_IRQ_INFO_EVENTFD
	IRQ_SET_DATA_NONE      = C.VFIO_IRQ_SET_DATA_NONE
	IRQ_SET_DATA_EVENTFD   = C.VFIO_IRQ_SET_DATA_EVENTFD
	IRQ_SET_ACTION_TRIGGER = C.VFIO_IRQ_SET_ACTION_TRIGGER

	PCI_MSIX_IRQ_INDEX = C.VFIO_PCI_MSIX_IRQ_INDEX
	PCI_ERR_IRQ_INDEX  = C.VFIO_PCI_ERR_IRQ_INDEX
	PCI_REQ_IRQ_INDEX  = C.VFIO_PCI_REQ_IRQ_INDEX
)

// Flags and capabilities of the type 1 IOMMU.
const (
	IOMMU_INFO_PGSIZES              = C.VFIO_IOMMU_INFO_PGSIZES
	IOMMU_INFO_CAPS                 = C.VFIO_IOMMU_INFO_CAPS
	IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = C.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE
	IOMMU_TYPE1_INFO_DMA_AVAIL      = C.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL
	DMA_MAP_FLAG_READ               = C.VFIO_DMA_MAP_FLAG_READ
	DMA_MAP_FLAG_WRITE              = C.VFIO_DMA_MAP_FLAG_WRITE
)

// Where every information structure has its size and flags, in bytes.
const (
	InfoArgsz = C.off_argsz
	InfoFlags = C.off_flags
)

// Offsets into struct vfio_info_cap_header, and its size, in bytes.
const (
	CapID         = C.off_cap_id
	CapVersion    = C.off_cap_version
	CapNext       = C.off_cap_next
	SizeofCapInfo = C.size_cap_header
)

// Offset into struct vfio_device_info, in bytes.
const (
	DeviceIRQs = C.off_device_irqs // the last field that always was
)

// Offsets into struct vfio_region_info, and its size, in bytes.
const (
	RegionIndex      = C.off_region_index
	RegionCap        = C.off_region_cap
	RegionSize       = C.off_region_size
	RegionOffset     = C.off_region_offset
	SizeofRegionInfo = C.size_region_info
)

// Offsets into struct vfio_region_info_cap_sparse_mmap and its areas, in bytes.
const (
	SparseCount = C.off_sparse_count
	SparseAreas = C.off_sparse_areas
	AreaOffset  = C.off_area_offset
	AreaSize    = C.off_area_size
	SizeofArea  = C.size_area
)

// Offsets into struct vfio_irq_info and struct vfio_irq_set, and sizes, in bytes.
const (
	IRQIndex          = C.off_irq_index
	IRQCount          = C.off_irq_count
	SizeofIRQInfo     = C.size_irq_info
	IRQSetIndex       = C.off_set_index
	IRQSetStart       = C.off_set_start
	IRQSetCount       = C.off_set_count
	IRQSetData        = C.off_set_data
	SizeofGroupStatus = C.size_group_status
)

// Offsets into struct vfio_iommu_type1_info and its capabilities, in bytes.
const (
	IOMMUPageSizes = C.off_iommu_pgsizes
	IOMMUCap       = C.off_iommu_cap
	IOVACount      = C.off_iova_count
	IOVARanges     = C.off_iova_ranges
	RangeStart     = C.off_range_start
	RangeEnd       = C.off_range_end
	SizeofRange    = C.size_range
	DMAAvail       = C.off_avail
)
