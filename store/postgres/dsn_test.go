package postgres_test

import (
	"strings"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/store"
	"github.com/lumio-vision/caddy-system-keys/store/postgres"
)

func TestADSNThatIsNotWhatItSeemsIsRefusedAndNotRepeated(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ dsn, want string }{
		"in double quotes":                    {`"postgres://lumio:hunter2@db.internal/lumio"`, "quotes"},
		"in single quotes":                    {`'postgres://lumio:hunter2@db.internal/lumio'`, "quotes"},
		"in typographic quotes":               {`“postgres://lumio:hunter2@db.internal/lumio”`, "quotes"},
		"with a quote at its end":             {`postgres://lumio:hunter2@db.internal/lumio"`, "quotes"},
		"with pairs in quotes":                {`"host=db.internal password=hunter2"`, "quotes"},
		"with a byte order mark":              {"\ufeffpostgres://lumio:hunter2@db.internal/lumio", "byte order mark"},
		"with a scheme in upper case":         {"Postgres://lumio:hunter2@db.internal/lumio", "lower case"},
		"of SQLAlchemy":                       {"postgresql+psycopg://lumio:hunter2@db.internal/lumio", "must begin with"},
		"of JDBC":                             {"jdbc:postgresql://lumio:hunter2@db.internal/lumio", "must begin with"},
		"of another database":                 {"mysql://lumio:hunter2@db.internal/lumio", "must begin with"},
		"with a slash in the password":        {"postgres://lumio:123/hunter2@db.internal", "%XX"},
		"with a slash and no digits":          {"postgres://lumio:hun/hunter2@db.internal:5432/lumio", "%XX"},
		"with a question mark in it":          {"postgres://lumio:123?hunter2@db.internal", "%XX"},
		"with a hash in it":                   {"postgres://lumio:hunter2#@db.internal:5432/lumio", "%XX"},
		"with an @ in it":                     {"postgres://lumio:p@hunter2@db.internal/lumio", "%XX"},
		"with a blank in it":                  {"postgres://lumio:two hunter2@db.internal/lumio", "%XX"},
		"with no host behind the password":    {"postgres://lumio:hunter2/lumio", "%XX"},
		"with a broken escape":                {"postgres://lumio:hunter2%zz@db.internal/lumio", "%XX"},
		"with an ampersand in a parameter":    {"postgres://db.internal/lumio?password=a&hunter2=1", "not known"},
		"with a semicolon in a parameter":     {"postgres://db.internal/lumio?password=a;hunter2", "%XX"},
		"with an unknown parameter":           {"postgres://db.internal/lumio?passwd=hunter2", "not known"},
		"with a port that is none":            {"postgres://lumio:hunter2@db.internal:port/lumio", "%XX"},
		"with a port out of bounds":           {"postgres://lumio:hunter2@db.internal:99999999/lumio", "invalid port"},
		"with an unknown sslmode":             {"postgres://lumio:hunter2@db.internal/lumio?sslmode=hunter2", "sslmode is invalid"},
		"with a pool without a number":        {"postgres://lumio:hunter2@db.internal/lumio?pool_max_conns=hunter2", "pool_max_conns"},
		"with a timeout without a number":     {"postgres://lumio:hunter2@db.internal/lumio?connect_timeout=soon", "connect_timeout"},
		"with a file that is not there":       {"postgres://lumio:hunter2@db.internal/lumio?sslrootcert=/hunter2", "TLS"},
		"with an open quote":                  {"host=db.internal password='hunter2", "key=value"},
		"with text behind a quote":            {"host=db.internal password='a'hunter2", "key=value"},
		"without a =":                         {"password hunter2", "key=value"},
		"that is a word":                      {"hunter2", "key=value"},
		"that is empty":                       {"", "key=value"},
		"whose user takes the password":       {"host=db.internal user= password=hunter2", "key=value"},
		"whose last value is missing":         {"password=hunter2 host=", "key=value"},
		"with a blank before the =":           {"host=db.internal password =hunter2", "key=value"},
		"with a blank in the password":        {"host=db.internal password=two hunter2=x", "not known"},
		"with a word behind the password":     {"host=db.internal password=two hunter2", "key=value"},
		"with a password in double quotes":    {`host=db.internal password="hunter2"`, "single quotes"},
		"with a name in upper case":           {"host=db.internal Password=hunter2", "not known"},
		"with commas":                         {"host=db.internal,user=lumio,password=hunter2", "single quotes"},
		"of .NET":                             {"Server=db.internal;Password=hunter2", "not known"},
		"of .NET, with a name that we know":   {"host=db.internal;password=hunter2", "single quotes"},
		"without slashes":                     {"postgres:lumio:hunter2=@db.internal/lumio", "not known"},
		"with a schema, as Prisma has it":     {"postgres://lumio:hunter2@db.internal/lumio?schema=hunter2", "{ schema <name> }"},
		"with a limit, as Prisma has it":      {"postgres://lumio:hunter2@db.internal/lumio?connection_limit=1&hunter2=1", "pool_max_conns"},
		"with a pooler, as Prisma has it":     {"postgres://lumio:hunter2@db.internal/lumio?pgbouncer=true", "leave out pgbouncer"},
		"with pairs, as Prisma has it":        {"host=db.internal password=hunter2 schema=hunter2", "{ schema <name> }"},
		"with a parameter of another library": {"postgres://lumio:hunter2@db.internal/lumio?ssl=true", "not known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := postgres.Open(t.Context(), test.dsn, postgres.Options{})
			if err == nil {
				t.Fatalf("it was accepted (%v)", s.Close())
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %q, want one about %q", err, test.want)
			}
			for _, part := range []string{"hunter2", "lumio", "db.internal"} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("the error repeats %q: %q", part, err)
				}
			}
		})
	}
}

// TestAllOptionsOfPrismaAreInOneError has a URL that somebody takes from there as it is.
func TestAllOptionsOfPrismaAreInOneError(t *testing.T) {
	t.Parallel()
	err := postgres.CheckDSN("postgresql://u:p@db.internal:6432/app?schema=public&pgbouncer=true&connection_limit=5&pool_timeout=10&sslmode=require")
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, part := range []string{"Prisma", "{ schema <name> }", "leave out pgbouncer", "pool_max_conns", "leave out pool_timeout"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v says nothing of %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "sslmode") {
		t.Errorf("%v is about sslmode too", err)
	}
}

func TestADSNThatIsWhatItSeemsIsTaken(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://lumio:hunter2@db.internal/lumio",
		"postgresql://lumio@db.internal:5432/lumio?sslmode=disable&connect_timeout=3&pool_max_conns=4",
		"postgres://lumio:p%40ss%2Fword%23@one:5432,two:5433/lumio?target_session_attrs=read-write",
		"postgres://[::1]:5432/lumio?options=-c%20work_mem%3D8MB",
		"postgres:///lumio?host=/var/run/postgresql&search_path=keys",
		"postgres://%2Fvar%2Frun%2Fpostgresql/lumio",
		"host=/var/run/postgresql dbname=lumio",
		"host=db.internal user=lumio password=a=b== dbname=lumio",
		`  host=db.internal password='it\'s two' user='' options='-c work_mem=8MB'` + "\n",
		`host=db.internal password=it\'s\ two`,
	} {
		s, err := postgres.Open(t.Context(), dsn, postgres.Options{})
		if err != nil {
			t.Errorf("%q: %v", dsn, err)
			continue
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAServerThatCannotBeReachedIsNamedWithoutThePassword(t *testing.T) {
	t.Parallel()
	s := open(t, "postgres://lumio:hunter2@127.0.0.1:1/lumio?sslmode=disable")
	_, err := s.Key(t.Context(), store.ID{1})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "lumio") {
		t.Errorf("error = %v, want the address and no name from the DSN", err)
	}
}
