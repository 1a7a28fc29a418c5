package snp

// Bits of SEV_FEATURES (APM vol. 2 table B-4, offset 3B0h).
const (
	SEV_FEATURE_SNP_ACTIVE          = 1 << 0
	SEV_FEATURE_VTOM                = 1 << 1
	SEV_FEATURE_REFLECT_VC          = 1 << 2
	SEV_FEATURE_RESTRICTED_INJ      = 1 << 3
	SEV_FEATURE_ALTERNATE_INJ       = 1 << 4
	SEV_FEATURE_DEBUG_SWAP          = 1 << 5
	SEV_FEATURE_PREVENT_HOST_IBS    = 1 << 6
	SEV_FEATURE_BTB_ISOLATION       = 1 << 7
	SEV_FEATURE_VMPL_SSS            = 1 << 8
	SEV_FEATURE_SECURE_TSC          = 1 << 9
	SEV_FEATURE_VMGEXIT_PARAM       = 1 << 10
	SEV_FEATURE_PMC_VIRT            = 1 << 11
	SEV_FEATURE_IBS_VIRT            = 1 << 12
	SEV_FEATURE_GUEST_INTERCEPT_CTL = 1 << 13
	SEV_FEATURE_VMSA_REG_PROT       = 1 << 14
	SEV_FEATURE_SMT_PROT            = 1 << 15
	SEV_FEATURE_SECURE_AVIC         = 1 << 16
	SEV_FEATURE_IBPB_ON_ENTRY       = 1 << 21

	// SEV_FEATURES_DEFINED are all of the above; the others must be zero.
	SEV_FEATURES_DEFINED = 1<<17 - 1 | SEV_FEATURE_IBPB_ON_ENTRY
)

// Bits of VINTR_CTRL in the VMSA (APM vol. 2 table B-4, offset 3B8h, and
// §15.36.16).
const (
	VINTR_TPR_MASK      = 0xFF
	VINTR_IRQ           = 1 << 8
	VINTR_GIF           = 1 << 9
	VINTR_INT_SHADOW    = 1 << 10
	VINTR_NMI           = 1 << 11
	VINTR_NMI_MASK      = 1 << 12
	VINTR_PRIO_SHIFT    = 16 // four bits
	VINTR_PRIO_MASK     = 0xF << VINTR_PRIO_SHIFT
	VINTR_IGN_TPR       = 1 << 20
	VINTR_NMI_ENABLE    = 1 << 26
	VINTR_VECTOR_SHIFT  = 32 // eight bits
	VINTR_VECTOR_MASK   = 0xFF << VINTR_VECTOR_SHIFT
	VINTR_BUSY          = 1 << 63
	VINTR_SAVED_ON_EXIT = VINTR_TPR_MASK | VINTR_IRQ | VINTR_INT_SHADOW | VINTR_NMI | VINTR_NMI_MASK
)

// Bits of EVENTINJ and of EXITINTINFO (APM vol. 2 §15.20 and §15.7.2).
const (
	EVENT_VECTOR_MASK   = 0xFF
	EVENT_TYPE_SHIFT    = 8 // three bits
	EVENT_TYPE_MASK     = 7 << EVENT_TYPE_SHIFT
	EVENT_ERROR_VALID   = 1 << 11
	EVENT_VALID         = 1 << 31
	EVENT_ERROR_SHIFT   = 32
	EVENT_RESERVED_MASK = 0x7FFFF << 12

	EVENT_TYPE_INTR      = 0
	EVENT_TYPE_NMI       = 2
	EVENT_TYPE_EXCEPTION = 3
	EVENT_TYPE_SOFT      = 4
)

// Vectors of exceptions that SEV adds (APM vol. 2 §8.2).
const (
	VECTOR_HV = 28
	VECTOR_VC = 29
)
