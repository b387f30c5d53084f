package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store"
)

func TestAServerIsKnownByItsVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"PostgreSQL 15.8 (Debian 15.8-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14) 12.2.0, 64-bit": "PostgreSQL",
		"PostgreSQL 16.2 on aarch64-unknown-linux-gnu, compiled by aarch64-unknown-linux-gnu-gcc (GCC) 9.5.0, 64-bit":       "PostgreSQL",
		"CockroachDB CCL v24.3.5 (x86_64-pc-linux-gnu, built 2025/02/03 17:28:15, go1.22.8)":                                "CockroachDB",
		"PostgreSQL 15.2-YB-2025.1.0.0-b168 on x86_64-pc-linux-gnu, compiled by clang version 17.0.6, 64-bit":               "YugabyteDB",
		"PostgreSQL 13.14.0-RisingWave-2.3.2 (58c5893670f326f0922b9bc58c61c83cabeccaa8)":                                    "RisingWave",
		"PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2, Redshift 1.0.47470":                        "Amazon Redshift",
		"PostgreSQL 14.4 (Apache Cloudberry 2.0.0 build 1) on x86_64-pc-linux-gnu, compiled by gcc (GCC) 11.4.1, 64-bit":    "Apache Cloudberry",
	} {
		if got := productOf(version); got != want {
			t.Errorf("%s is %s", version, got)
		}
	}
}

func TestOnlyPostgreSQLThatIsNewEnoughIsSupported(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		version    int
		procedural bool
		want       string
	}{
		{18_00_01, true, ""},
		{13_00_00, true, ""},
		{12_00_22, true, "needs 13"},
		{16_00_00, false, "Aurora DSQL"},
	} {
		err := supported(test.version, test.procedural)
		_, refused := errors.AsType[*store.RefusedError](err)
		if refused != (test.want != "") || refused && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%d: %v", test.version, err)
		}
	}
}
