package kernelcfg

import "keel/kernelcfg/deb"

// tpmToolSets are the tools that guests use a TPM with, in order of preference:
// tpm2-tools and the libraries that they need. A library's later pins have the same
// binary interface.
var tpmToolSets = []toolSet{
	{"bookworm", append([][]deb.Pin{
		{dashBookworm},
		{
			{
				Name: "tpm2-tools", Version: "5.4-1",
				Pool:   "pool/main/t/tpm2-tools/tpm2-tools_5.4-1_amd64.deb",
				SHA256: "146f0202c83e0d9e7b2d638954c4a0a862f31b805a32a157331a79d2344ec27e", Size: 740428,
			},
		},
		{
			{
				Name: "libtss2-esys-3.0.2-0", Version: "3.2.1-3",
				Pool:   "pool/main/t/tpm2-tss/libtss2-esys-3.0.2-0_3.2.1-3_amd64.deb",
				SHA256: "63b101c1498f48e043fa18160f657c4bfc30d97bb29f1ca9277f0255930722db", Size: 157824,
			},
		},
		{
			{
				Name: "libtss2-mu0", Version: "3.2.1-3",
				Pool:   "pool/main/t/tpm2-tss/libtss2-mu0_3.2.1-3_amd64.deb",
				SHA256: "bc5c69c1b7097ccd8801af258ba8b41ba2e236e509dc2c17b94aa33c22028e5c", Size: 76900,
			},
		},
		{
			{
				Name: "libtss2-rc0", Version: "3.2.1-3",
				Pool:   "pool/main/t/tpm2-tss/libtss2-rc0_3.2.1-3_amd64.deb",
				SHA256: "19ef67fe402efd53bcf85b4c44b616fafeb7457097a1f3eebabf77f46ece1e10", Size: 29020,
			},
		},
		{
			{
				Name: "libtss2-sys1", Version: "3.2.1-3",
				Pool:   "pool/main/t/tpm2-tss/libtss2-sys1_3.2.1-3_amd64.deb",
				SHA256: "d4df65f6e93f8aace94b5cba2885f4ebdb0a0d8c5b95786899f8c5f2e2283b3d", Size: 57148,
			},
		},
		{
			{
				Name: "libtss2-tctildr0", Version: "3.2.1-3",
				Pool:   "pool/main/t/tpm2-tss/libtss2-tctildr0_3.2.1-3_amd64.deb",
				SHA256: "cd9f83306281bfbdafca751d3361f335010ada11c40271ed58b9770023027ba4", Size: 34796,
			},
		},
		{
			{
				Name: "libtss2-tcti-device0", Version: "3.2.1-3",
				Pool:   "pool/main/t/tpm2-tss/libtss2-tcti-device0_3.2.1-3_amd64.deb",
				SHA256: "635fff4159b1b80fdb8e22d5b87c39e837c6297dc63ca8f2dc37e0f77c44e576", Size: 33804,
			},
		},
		{
			{
				Name: "libssl3", Version: "3.0.22-1~deb12u2",
				Pool:   "pool/updates/main/o/openssl/libssl3_3.0.22-1~deb12u2_amd64.deb",
				SHA256: "cb4784740daa9b3b0eaea2b444bbefa686794afbbf3d678d238c1fd9875f2efd", Size: 2039888,
			},
			{
				Name: "libssl3", Version: "3.0.20-1~deb12u2",
				Pool:   "pool/main/o/openssl/libssl3_3.0.20-1~deb12u2_amd64.deb",
				SHA256: "89be24b41bff568ee6e7caf5680a3d808e80315ed92e407056ce0fa7a5bda025", Size: 2036016,
			},
			{
				Name: "libssl3", Version: "3.0.17-1~deb12u2",
				Pool:   "pool/main/o/openssl/libssl3_3.0.17-1~deb12u2_amd64.deb",
				SHA256: "d97c29db9d9d1d125580be5d7b2e1170adb47e5a8b4481841718be95fa652e68", Size: 2027428,
			},
		},
		libc6Bookworm,
	}, luksBookworm...)},
}
