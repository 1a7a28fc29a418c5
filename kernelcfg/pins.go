package kernelcfg

import "keel/kernelcfg/deb"

// Sources are the kernels that VTL2 may be built from, in order of preference.
// Debian's mirrors keep only some backports versions; the later pins are what is
// left when the first is gone.
var Sources = []deb.Pin{
	{
		Name: "linux-source-7.3", Version: "7.3.4-1~bpo13+1",
		Pool:   "pool/main/l/linux/linux-source-7.3_7.3.4-1~bpo13+1_all.deb",
		SHA256: "703e369ddd4cce971452f5a593ee55df3a5c10c83caf0fa0df039633ed181ee3", Size: 166780612,
	},
	{
		Name: "linux-source-7.2", Version: "7.2.12-1~bpo13+1",
		Pool:   "pool/main/l/linux/linux-source-7.2_7.2.12-1~bpo13+1_all.deb",
		SHA256: "73ca6c22599ba411ab3179642d33501ca2c90174e13c3c8d86e996ea1cbf2a8f", Size: 164744800,
	},
	{
		Name: "linux-source-7.2", Version: "7.2.11-1~bpo13+1",
		Pool:   "pool/main/l/linux/linux-source-7.2_7.2.11-1~bpo13+1_all.deb",
		SHA256: "97a3aac3a9eeb8f18e8b0511af9261c54605fd23b712f1a48144360a123738a2", Size: 164741456,
	},
}

// guests maps a short name to the packages that carry that guest kernel. The signed
// image is what a stock system boots; its unsigned twin has the same code.
var guests = map[string][]deb.Pin{
	"6.1": {
		{
			Name: "linux-image-6.1.0-50-cloud-amd64", Version: "6.1.176-1",
			Pool:   "pool/main/l/linux-signed-amd64/linux-image-6.1.0-50-cloud-amd64_6.1.176-1_amd64.deb",
			SHA256: "efe19f605b6f54a8352e68d85a629abb2d30b72a085faef603a9152590baa791", Size: 26484304,
		},
		{
			Name: "linux-image-6.1.0-50-cloud-amd64-unsigned", Version: "6.1.176-1",
			Pool:   "pool/main/l/linux/linux-image-6.1.0-50-cloud-amd64-unsigned_6.1.176-1_amd64.deb",
			SHA256: "4f217f710203cdfedde21f836bc66a0a4d773752d7fe8e5e13f701f891788945", Size: 26489272,
		},
		{
			Name: "linux-image-6.1.0-47-cloud-amd64", Version: "6.1.170-3",
			Pool:   "pool/main/l/linux-signed-amd64/linux-image-6.1.0-47-cloud-amd64_6.1.170-3_amd64.deb",
			SHA256: "139e51253b0d93db1ba3eb87707f76f3c5a7d83a50a5e5aacbda010ad21bd73a", Size: 26429640,
		},
		{
			Name: "linux-image-6.1.0-56-cloud-amd64", Version: "6.1.192-2",
			Pool:   "pool/updates/main/l/linux-signed-amd64/linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb",
			SHA256: "e7d02b943971edcb8790e256c02cfab3bca6c3d37c1bf25392a57c71300615ee", Size: 26713492,
		},
		{
			Name: "linux-image-6.1.0-55-cloud-amd64", Version: "6.1.192-1",
			Pool:   "pool/updates/main/l/linux-signed-amd64/linux-image-6.1.0-55-cloud-amd64_6.1.192-1_amd64.deb",
			SHA256: "ad3018bdd76199acbdb89bdbd37e849be0614f3829aa85d0eb6154fee951cd0b", Size: 26714844,
		},
	},
	"5.10": {
		{
			Name: "linux-image-5.10.0-32-cloud-amd64", Version: "5.10.223-1",
			Pool:   "pool/main/l/linux-signed-amd64/linux-image-5.10.0-32-cloud-amd64_5.10.223-1_amd64.deb",
			SHA256: "fb4a1229952d892138532c1d9f40a7fd0bd408e4dcf969c12e4524b6a89fdcb8", Size: 21032620,
		},
		{
			Name: "linux-image-5.10.0-32-cloud-amd64-unsigned", Version: "5.10.223-1",
			Pool:   "pool/main/l/linux/linux-image-5.10.0-32-cloud-amd64-unsigned_5.10.223-1_amd64.deb",
			SHA256: "b1fb8d34c26105a2ba1271a3df868a9eea460657df98c77fd08822ef4908c9db", Size: 20768532,
		},
		{
			Name: "linux-image-5.10.0-30-cloud-amd64", Version: "5.10.218-1",
			Pool:   "pool/main/l/linux-signed-amd64/linux-image-5.10.0-30-cloud-amd64_5.10.218-1_amd64.deb",
			SHA256: "24fce24f8c058b426b3eb4ec4778d0ac10d84302743cacba53f3ea168cf0b0a5", Size: 20962008,
		},
	},
}

// busyboxes carry the static shell and tools of the guest's initrd.
var busyboxes = []deb.Pin{
	{
		Name: "busybox-static", Version: "1:1.35.0-4+deb12u1+b1",
		Pool:   "pool/main/b/busybox/busybox-static_1.35.0-4+deb12u1+b1_amd64.deb",
		SHA256: "3d3fdbe91d4660c873e14b092c213fe81c1da6362daa236eb25d0171eb108744", Size: 928188,
	},
	{
		Name: "busybox-static", Version: "1:1.37.0-6+b9",
		Pool:   "pool/main/b/busybox/busybox-static_1.37.0-6+b9_amd64.deb",
		SHA256: "598a3fd92bdafc34cd81196b2952ad36e910e47a4ecf162f8ce5e8e262598e53", Size: 955316,
	},
}
