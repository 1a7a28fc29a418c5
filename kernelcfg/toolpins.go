package kernelcfg

import "keel/kernelcfg/deb"

// toolSet is a consistent choice of packages with the programs of a release of
// Debian. Sets do not mix: programs need the libraries that they were built with.
type toolSet struct {
	release  string
	packages [][]deb.Pin // each a list in order of preference
}

// toolSets are the tools that guests test disks with, in order of preference:
// e2fsprogs, xfsprogs, sg3-utils, util-linux, and the libraries that they need. A
// library's later pins have the same binary interface.
var toolSets = []toolSet{
	{"bookworm", [][]deb.Pin{
		{dashBookworm},
		{{
			Name: "e2fsprogs", Version: "1.47.0-2+b2",
			Pool:   "pool/main/e/e2fsprogs/e2fsprogs_1.47.0-2+b2_amd64.deb",
			SHA256: "fedd424691c08ef0739729026be298e7be8236337bf8e031b3c7ec66794e6fc2", Size: 571920,
		}},
		{{
			Name: "xfsprogs", Version: "6.1.0-1",
			Pool:   "pool/main/x/xfsprogs/xfsprogs_6.1.0-1_amd64.deb",
			SHA256: "e2d2a60dd29d568b5724b66d9ff864305cec61a15e6ba842079398524e1c5718", Size: 992260,
		}},
		{{
			Name: "sg3-utils", Version: "1.46-3",
			Pool:   "pool/main/s/sg3-utils/sg3-utils_1.46-3_amd64.deb",
			SHA256: "1ba7fd275f90fa9d030fa9df021d66aa970910967971a793c1ba51a930a8c4f9", Size: 844956,
		}},
		{
			{
				Name: "util-linux", Version: "2.38.1-5+deb12u3",
				Pool:   "pool/main/u/util-linux/util-linux_2.38.1-5+deb12u3_amd64.deb",
				SHA256: "8eb241ff24b2e1ee9c0373f4fc9bc728b85bf5966c1496154df7da01c0e42f34", Size: 1177276,
			},
			{
				Name: "util-linux", Version: "2.38.1-5+deb12u1",
				Pool:   "pool/updates/main/u/util-linux/util-linux_2.38.1-5+deb12u1_amd64.deb",
				SHA256: "cc96c6e07db33c0422ff8945e13c004489c979f5e070daa67b9c6c219b22d980", Size: 1176492,
			},
		},
		{
			{
				Name: "mount", Version: "2.38.1-5+deb12u3",
				Pool:   "pool/main/u/util-linux/mount_2.38.1-5+deb12u3_amd64.deb",
				SHA256: "456ed2c62f884bc1133b6969d4d1eb2e6d8581076b00b4c8d700151155270a7a", Size: 134044,
			},
			{
				Name: "mount", Version: "2.38.1-5+deb12u1",
				Pool:   "pool/updates/main/u/util-linux/mount_2.38.1-5+deb12u1_amd64.deb",
				SHA256: "f3fe9b80a2dcd2a7f464f3ada4d92b56999c32cd08e25da115cc3c3509e6a901", Size: 133804,
			},
		},
		libc6Bookworm,
		libblkidBookworm,
		libuuidBookworm,
		libmountBookworm,
		libselinuxBookworm,
		libpcreBookworm,
		{{
			Name: "libext2fs2", Version: "1.47.0-2+b2",
			Pool:   "pool/main/e/e2fsprogs/libext2fs2_1.47.0-2+b2_amd64.deb",
			SHA256: "dff731f2318df99da4b8bf5f330f415f95b94c609bac29e7b2edba0a38f22a98", Size: 204900,
		}},
		{{
			Name: "libcom-err2", Version: "1.47.0-2+b2",
			Pool:   "pool/main/e/e2fsprogs/libcom-err2_1.47.0-2+b2_amd64.deb",
			SHA256: "a2bac7015e78fbc0c504df3e441f3a22292f1d2d77f9ccda760057f3690e22f2", Size: 20044,
		}},
		{
			{
				Name: "libinih1", Version: "55-1",
				Pool:   "pool/main/libi/libinih/libinih1_55-1_amd64.deb",
				SHA256: "1286ddab2ef1050389e585ad3bfd0a0d9bdd26475003a33b4eec884bccd50477", Size: 6684,
			},
		},
		{{
			Name: "liburcu8", Version: "0.13.2-1",
			Pool:   "pool/main/libu/liburcu/liburcu8_0.13.2-1_amd64.deb",
			SHA256: "8647049698200fb5e20a130a09059b51878bb98643a120c7b0c6cbfd3f9b42dd", Size: 70788,
		}},
		{{
			Name: "libsgutils2-1.46-2", Version: "1.46-3",
			Pool:   "pool/main/s/sg3-utils/libsgutils2-1.46-2_1.46-3_amd64.deb",
			SHA256: "20538158418adf2866249b014feb462888296f73c8b9f0250f24ae4c8bafa779", Size: 116968,
		}},
	}},
	{"trixie", [][]deb.Pin{
		{{
			Name: "dash", Version: "0.5.12-12",
			Pool:   "pool/main/d/dash/dash_0.5.12-12_amd64.deb",
			SHA256: "a8902cb6d8650134764a25fb80aec8589d858ef71ece1680a62e84816c37bb04", Size: 98504,
		}},
		{{
			Name: "e2fsprogs", Version: "1.47.2-3+b12",
			Pool:   "pool/main/e/e2fsprogs/e2fsprogs_1.47.2-3+b12_amd64.deb",
			SHA256: "e9e638eb3e22b5f14d01ce0b28aa512a5a22fcc0e70d1c733444579b67ea236b", Size: 591288,
		}},
		{{
			Name: "xfsprogs", Version: "6.13.0-2+deb13u1",
			Pool:   "pool/main/x/xfsprogs/xfsprogs_6.13.0-2+deb13u1_amd64.deb",
			SHA256: "79e00160bfc45d25a46d2709edd364afb41723d9b96713de8f6c80b6a17f2d74", Size: 1167884,
		}},
		{{
			Name: "sg3-utils", Version: "1.48-3~deb13u1",
			Pool:   "pool/main/s/sg3-utils/sg3-utils_1.48-3~deb13u1_amd64.deb",
			SHA256: "ba2e2ab287b372dc9646bc5210fb8497f0b06058f75f54a9c3b3f565d2263047", Size: 1013192,
		}},
		{{
			Name: "util-linux", Version: "2.41.5-0+deb13u1",
			Pool:   "pool/main/u/util-linux/util-linux_2.41.5-0+deb13u1_amd64.deb",
			SHA256: "7d5b1176cc3d8cc6b290b3ec17af458f362d9200845f30da22057a8198744430", Size: 1242392,
		}},
		{{
			Name: "mount", Version: "2.41.5-0+deb13u1",
			Pool:   "pool/main/u/util-linux/mount_2.41.5-0+deb13u1_amd64.deb",
			SHA256: "eb70a615114ac40123768beb20e302554d5cb7edb33290be7e418ebe1075c878", Size: 163208,
		}},
		{libc6Trixie},
		{{
			Name: "libblkid1", Version: "2.41.5-0+deb13u1",
			Pool:   "pool/main/u/util-linux/libblkid1_2.41.5-0+deb13u1_amd64.deb",
			SHA256: "81535f3c2c0efc732965907c8749103a0a26377c761622c9ce39b4c92dcde52f", Size: 171612,
		}},
		{{
			Name: "libuuid1", Version: "2.41.5-0+deb13u1",
			Pool:   "pool/main/u/util-linux/libuuid1_2.41.5-0+deb13u1_amd64.deb",
			SHA256: "c1bf4c4c3ff48c57fabf93307dfb56996b60cfa33927afc4158b5db36fb2721e", Size: 37848,
		}},
		{{
			Name: "libmount1", Version: "2.41.5-0+deb13u1",
			Pool:   "pool/main/u/util-linux/libmount1_2.41.5-0+deb13u1_amd64.deb",
			SHA256: "6d00f45f2e80e078e906e3eedecd3ba6913e39fef49bff361ee583f17f00ec05", Size: 210408,
		}},
		{{
			Name: "libselinux1", Version: "3.8.1-1",
			Pool:   "pool/main/libs/libselinux/libselinux1_3.8.1-1_amd64.deb",
			SHA256: "68bb8d32bd8d6d7d2f5952a169db03d1484b46ae1e52abccdec42a19dccea5d5", Size: 84680,
		}},
		{{
			Name: "libpcre2-8-0", Version: "10.46-1~deb13u3",
			Pool:   "pool/main/p/pcre2/libpcre2-8-0_10.46-1~deb13u3_amd64.deb",
			SHA256: "e226f661d918f04daf38cdbc4806b7ed7d6ef95c7eb0ade692fc350e31970040", Size: 299148,
		}},
		{{
			Name: "libext2fs2t64", Version: "1.47.2-3+b12",
			Pool:   "pool/main/e/e2fsprogs/libext2fs2t64_1.47.2-3+b12_amd64.deb",
			SHA256: "9f5783fa48239e42260d41846fbc6c8b19c233251063524456096195660eaa09", Size: 212664,
		}},
		{{
			Name: "libcom-err2", Version: "1.47.2-3+b12",
			Pool:   "pool/main/e/e2fsprogs/libcom-err2_1.47.2-3+b12_amd64.deb",
			SHA256: "bd43e020b8fed399db3eebf098111f10fba4c436fff99ccad72cc7e27c9764ec", Size: 25036,
		}},
		{{
			Name: "libinih1", Version: "59-1",
			Pool:   "pool/main/libi/libinih/libinih1_59-1_amd64.deb",
			SHA256: "22e51939acb45906a57851508290782a2a704fce5208e213e951268b3c799c4a", Size: 6808,
		}},
		{{
			Name: "liburcu8t64", Version: "0.15.2-2",
			Pool:   "pool/main/libu/liburcu/liburcu8t64_0.15.2-2_amd64.deb",
			SHA256: "bf6d8fe515004a491947c72af8ce2c015c5f9b4e8d024b81952ee8f372d507e9", Size: 76304,
		}},
		{{
			Name: "libsgutils2-1.48", Version: "1.48-3~deb13u1",
			Pool:   "pool/main/s/sg3-utils/libsgutils2-1.48_1.48-3~deb13u1_amd64.deb",
			SHA256: "b3547dc1fb6e8109fa9d7b16c4d7a54a9266d8f971f300cc534bb678a986736d", Size: 145992,
		}},
	}},
}

// dashBookworm is the shell of scripts.
var dashBookworm = deb.Pin{
	Name: "dash", Version: "0.5.12-2",
	Pool:   "pool/main/d/dash/dash_0.5.12-2_amd64.deb",
	SHA256: "33ea40061da2f1a861ec46212b2b6a34f0776a049b1a3f0abce2fb8cb994258f", Size: 91848,
}

// libc6Bookworm is the C library of programs of bookworm.
var libc6Bookworm = []deb.Pin{
	{
		Name: "libc6", Version: "2.36-9+deb12u14",
		Pool:   "pool/main/g/glibc/libc6_2.36-9+deb12u14_amd64.deb",
		SHA256: "ba4f88f73dbc3ae9055f3c20f4523bfdbaf1ad13ff95e258924f77d20b4fbedf", Size: 2759320,
	},
	{
		Name: "libc6", Version: "2.36-9+deb12u7",
		Pool:   "pool/updates/main/g/glibc/libc6_2.36-9+deb12u7_amd64.deb",
		SHA256: "eba944bd99c2f5142baf573e6294a70f00758083bc3c2dca4c9e445943a3f8e6", Size: 2757936,
	},
	libc6Trixie,
}

// libc6Trixie is compatible with programs of bookworm.
var libc6Trixie = deb.Pin{
	Name: "libc6", Version: "2.41-12+deb13u5",
	Pool:   "pool/main/g/glibc/libc6_2.41-12+deb13u5_amd64.deb",
	SHA256: "b59b0625cd1a791375d40dab23a4d5d3d0641e3d0a773501becdc3725b7f99cf", Size: 2850108,
}

// fioSources are Debian's source of fio, the disk exerciser. Its binary package needs
// the clients of every network block device there is, 85 MB of libraries; the
// source builds into one static program of 2 MB.
var fioSources = []deb.Pin{
	{
		Name: "fio", Version: "3.33-3",
		Pool:   "pool/main/f/fio/fio_3.33.orig.tar.gz",
		SHA256: "d2410e13e0f379d061d077cc5ae325835bb7c6186aa7bafc1df954cbc9b014fc", Size: 6185325,
	},
}

// aioHeaders carry the header and the static library of Linux AIO for fio.
var aioHeaders = []deb.Pin{
	{
		Name: "libaio-dev", Version: "0.3.113-4",
		Pool:   "pool/main/liba/libaio/libaio-dev_0.3.113-4_amd64.deb",
		SHA256: "2d5a31e04e7471e71288832e004a8f8db78c2017ba11fa202f3e36e3ea21b2eb", Size: 29504,
	},
	{
		Name: "libaio-dev", Version: "0.3.113-8+b1",
		Pool:   "pool/main/liba/libaio/libaio-dev_0.3.113-8+b1_amd64.deb",
		SHA256: "c7a522b2d18195aa3d230cb049db7b67429d64cc07d74805c03bbba34c4e1089", Size: 31384,
	},
}

// Libraries that disk tools and the tools for encrypted disks need.

var libblkidBookworm = []deb.Pin{
	{
		Name: "libblkid1", Version: "2.38.1-5+deb12u3",
		Pool:   "pool/main/u/util-linux/libblkid1_2.38.1-5+deb12u3_amd64.deb",
		SHA256: "5a083377f29191cafcdf0f91ec124349b4a7895b531556633a136e43c6d53943", Size: 147380,
	},
	{
		Name: "libblkid1", Version: "2.38.1-5+deb12u1",
		Pool:   "pool/updates/main/u/util-linux/libblkid1_2.38.1-5+deb12u1_amd64.deb",
		SHA256: "151f59ca2b73ce8f85a576980f019dbbf9d44dd6ff4331f7954163e3704c1c06", Size: 147132,
	},
}

var libuuidBookworm = []deb.Pin{
	{
		Name: "libuuid1", Version: "2.38.1-5+deb12u3",
		Pool:   "pool/main/u/util-linux/libuuid1_2.38.1-5+deb12u3_amd64.deb",
		SHA256: "5fff398321da62d28a842bcbabd193d72ae21724962c029dc32b1dc6b2deaeaf", Size: 28784,
	},
	{
		Name: "libuuid1", Version: "2.38.1-5+deb12u1",
		Pool:   "pool/updates/main/u/util-linux/libuuid1_2.38.1-5+deb12u1_amd64.deb",
		SHA256: "1ff16517fd1cfaa266de47255b98c44ff51e8a1653f7d8f1fe9c386ff0f1aa7e", Size: 28580,
	},
}

var libmountBookworm = []deb.Pin{
	{
		Name: "libmount1", Version: "2.38.1-5+deb12u3",
		Pool:   "pool/main/u/util-linux/libmount1_2.38.1-5+deb12u3_amd64.deb",
		SHA256: "f46e2d6b006951825adde9757790b6609d7c66c7700f9b68f3db913eaac323c3", Size: 165732,
	},
	{
		Name: "libmount1", Version: "2.38.1-5+deb12u1",
		Pool:   "pool/updates/main/u/util-linux/libmount1_2.38.1-5+deb12u1_amd64.deb",
		SHA256: "a259d82ccbcfa230b492752d8d525d0a40d7938bf62fb90e83e16048ee88bf83", Size: 165416,
	},
}

var libselinuxBookworm = []deb.Pin{
	{
		Name: "libselinux1", Version: "3.4-1+b6",
		Pool:   "pool/main/libs/libselinux/libselinux1_3.4-1+b6_amd64.deb",
		SHA256: "2b07f5287b9105f40158b56e4d70cc1652dac56a408f3507b4ab3d061eed425f", Size: 73720,
	},
}

var libpcreBookworm = []deb.Pin{
	{
		Name: "libpcre2-8-0", Version: "10.42-1+deb12u2",
		Pool:   "pool/updates/main/p/pcre2/libpcre2-8-0_10.42-1+deb12u2_amd64.deb",
		SHA256: "d2f7edfcc7689b9e0761c2742cc824ac86a20768bc5e8057818dc6875291fe76", Size: 261628,
	},
	{
		Name: "libpcre2-8-0", Version: "10.42-1",
		Pool:   "pool/main/p/pcre2/libpcre2-8-0_10.42-1_amd64.deb",
		SHA256: "030db54f4d76cdfe2bf0e8eb5f9efea0233ab3c7aa942d672c7b63b52dbaf935", Size: 260776,
	},
}
