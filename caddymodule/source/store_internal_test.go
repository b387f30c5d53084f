package source

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/lumio-vision/caddy-system-keys/store/open"
)

func TestStoreSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		`{"driver":"mysql"}`:                  `there is no driver "mysql"; there are sqlite and postgres`,
		`{}`:                                  `there is no driver ""`,
		`{"driver":"sqlite","fil":"keys.db"}`: `unknown field "fil"`,
		`{"driver":"sqlite","file":" "}`:      `sqlite: the name of the file is empty`,
		`{"driver":"sqlite","dsn":"postgres://localhost/"}`: `sqlite has a file, and no dsn`,
		`{"driver":"postgres","dsn":"x","file":"keys.db"}`:  `postgres has a dsn, and no file`,
		`{"driver":"postgres"}`:                             `postgres: a dsn is needed`,
		`{"driver":"postgres","dsn":"nonsense"}`:            `postgres: the DSN`,
	} {
		store := new(Store)
		err := caddy.StrictUnmarshalJSON([]byte(settings), store)
		if err == nil {
			if _, located := store.Locate(caddy.NewReplacer()); located == nil {
				t.Errorf("the command line takes %s", settings)
			}
			err = store.Check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", settings, err, want)
		}
	}
}

func TestStoreThatIsLeftOutIsAFileOfCaddy(t *testing.T) {
	t.Parallel()
	location, err := (&Store{Driver: open.SQLite}).Locate(caddy.NewReplacer())
	if err != nil || !location.MakeFolder || !strings.HasPrefix(location.Name, caddy.AppDataDir()) {
		t.Errorf("%+v, %v", location, err)
	}
}

// TestAPasswordInTheConfigurationIsWarnedOf in each form of a DSN, and the warning does not
// repeat it.
func TestAPasswordInTheConfigurationIsWarnedOf(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]bool{
		"":                                  false,
		"{env.DATABASE_URL}":                false,
		"postgres://app@db/lumio":           false,
		"postgres://app:{file./run/pw}@db/": false,
		"postgres://db:5432/lumio":          false,
		"host=db password={env.PW}":         false,
		"postgres://app:hunter2@db/lumio":   true,
		"postgres://db/?password=hunter2":   true,
		"host=db password=hunter2":          true,
		"password = hunter2 host=db":        true,
	} {
		var log bytes.Buffer
		(&Store{DSN: dsn}).WarnOfPassword(slog.New(slog.NewTextHandler(&log, nil)))
		if got := strings.Contains(log.String(), "/config/"); got != want || strings.Contains(log.String(), "hunter2") {
			t.Errorf("%q: the log is %q", dsn, log.String())
		}
	}
}
