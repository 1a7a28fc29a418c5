package kernelcfg

import "keel/kernelcfg/deb"

// pythonSets are Python and what it needs, in order of preference.
var pythonSets = []toolSet{
	{"bookworm", [][]deb.Pin{
		{dashBookworm},
		{
			{
				Name: "python3.11-minimal", Version: "3.11.2-6+deb12u9",
				Pool:   "pool/updates/main/p/python3.11/python3.11-minimal_3.11.2-6+deb12u9_amd64.deb",
				SHA256: "b5f855ab922dfcd5d1a3223b2118c3dae13ffc7751b0cd5dc24740386323a33a", Size: 2054684,
			},
			{
				Name: "python3.11-minimal", Version: "3.11.2-6+deb12u8",
				Pool:   "pool/main/p/python3.11/python3.11-minimal_3.11.2-6+deb12u8_amd64.deb",
				SHA256: "4aba533f7cc5e7b93b7ff24482840e96813f5bcde9cce028395b65a0d799ccee", Size: 2064968,
			},
		},
		{
			{
				Name: "libpython3.11-minimal", Version: "3.11.2-6+deb12u9",
				Pool:   "pool/updates/main/p/python3.11/libpython3.11-minimal_3.11.2-6+deb12u9_amd64.deb",
				SHA256: "69f41cfa3f4ba17284e538f843069d7529c53c207d2ae17a5b02785944870e33", Size: 820928,
			},
			{
				Name: "libpython3.11-minimal", Version: "3.11.2-6+deb12u8",
				Pool:   "pool/main/p/python3.11/libpython3.11-minimal_3.11.2-6+deb12u8_amd64.deb",
				SHA256: "f3beaa03994ffedacf73c43a0843d53b062d347115d8af65bee2034552a4e6f9", Size: 817740,
			},
		},
		{
			{
				Name: "libpython3.11-stdlib", Version: "3.11.2-6+deb12u9",
				Pool:   "pool/updates/main/p/python3.11/libpython3.11-stdlib_3.11.2-6+deb12u9_amd64.deb",
				SHA256: "10f13e000ee757f5f2d2d3569f9e30546214a0c850acd78695feae373bfa3e53", Size: 1798408,
			},
			{
				Name: "libpython3.11-stdlib", Version: "3.11.2-6+deb12u8",
				Pool:   "pool/main/p/python3.11/libpython3.11-stdlib_3.11.2-6+deb12u8_amd64.deb",
				SHA256: "890b3540dad8a1ccc0deeca025db735bcc82629a76adacbe3b50fcc06ed528ca", Size: 1798560,
			},
		},
		{
			{
				Name: "libexpat1", Version: "2.5.0-1+deb12u5",
				Pool:   "pool/updates/main/e/expat/libexpat1_2.5.0-1+deb12u5_amd64.deb",
				SHA256: "cae5ded666d8573dd33060bc66fbac21eea8b101a6b56e2af8bd590fcfa65d79", Size: 107940,
			},
			{
				Name: "libexpat1", Version: "2.5.0-1+deb12u2",
				Pool:   "pool/main/e/expat/libexpat1_2.5.0-1+deb12u2_amd64.deb",
				SHA256: "2255e62fc22a86d2c544b8a3f516da9aee19383ad5742722ab4ce7f66a30dbc8", Size: 99888,
			},
		},
		{
			{
				Name: "zlib1g", Version: "1:1.2.13.dfsg-1",
				Pool:   "pool/main/z/zlib/zlib1g_1.2.13.dfsg-1_amd64.deb",
				SHA256: "d7dd1d1411fedf27f5e27650a6eff20ef294077b568f4c8c5e51466dc7c08ce4", Size: 86684,
			},
		},
		libc6Bookworm,
	}},
}
