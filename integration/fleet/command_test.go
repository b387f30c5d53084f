package fleet_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// command runs system-keys on the store of the fleet.
func (f *fleet) command(arguments ...string) (stdout, stderr string, err error) {
	f.tb.Helper()
	arguments = append([]string{"system-keys"}, append(arguments, "--config", f.instances[0].config)...)
	command := exec.CommandContext(f.tb.Context(), caddy, arguments...)
	home := filepath.Dir(f.instances[0].config)
	command.Env = append(os.Environ(), "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	err = command.Run()
	return out.String(), errs.String(), err
}

func TestStatusCommand(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 10*time.Second, "")
	out, errs, err := f.command("status")
	if err != nil || !strings.Contains(out, "Revocation epoch ") || !strings.Contains(out, "2 server(s)") {
		t.Errorf("%v\n%s%s", err, out, errs)
	}
	var status struct {
		Epoch     int64 `json:"revocation_epoch"`
		Watched   bool  `json:"watched"`
		Instances []struct {
			Name  string `json:"name"`
			Lease string `json:"lease"`
		} `json:"instances"`
	}
	read := func() {
		t.Helper()
		out, _, _ := f.command("status", "--json")
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	read()
	before := status.Epoch
	if before == 0 || !status.Watched || len(status.Instances) != 2 || status.Instances[0].Lease != "10s" || status.Instances[0].Name == "" {
		t.Errorf("%+v", status)
	}
	key, _ := f.mint("bot")
	f.mustPSQL("DELETE FROM system_keys WHERE id = '" + key.ID.String() + "'")
	if read(); status.Epoch <= before {
		t.Errorf("the epoch is %d after a revocation, and was %d", status.Epoch, before)
	}
	f.mustPSQL("ALTER TABLE sidecar.deletion DISABLE TRIGGER sidecar_log_delete")
	if out, errs, err := f.command("status"); err == nil || !strings.Contains(errs, "triggers") {
		t.Errorf("without a trigger: %v\n%s%s", err, out, errs)
	}
}

func TestRevokeCommandSaysWhoIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 3*time.Second, "")
	key, plain := f.mint("bot")
	l := hammer(t, key, plain, f.instances...)
	f.instances[1].signal(syscall.SIGSTOP)
	_, errs, err := f.command("revoke", key.ID.String(), "--yes")
	answered := time.Now()
	f.instances[1].signal(syscall.SIGCONT)
	if err != nil {
		t.Errorf("%v: %s", err, errs)
	}
	for _, want := range []string{"1 of 2 server(s) refuse it, waiting for ", "its lease runs out in ", "1 of 2 server(s) acknowledged, 1 did not answer"} {
		if !strings.Contains(errs, want) {
			t.Errorf("it does not say %q:\n%s", want, errs)
		}
	}
	settle()
	l.stop()
	l.wantNoneAfter(t, answered)

	if _, errs, err = f.command("revoke", strings.ToUpper(key.ID.String()), "--yes"); err != nil || !strings.Contains(errs, `Revoked "bot"`) {
		t.Errorf("again: %v: %s", err, errs)
	}
	if _, errs, err = f.command("revoke", store.NewAuditID(time.Now()).String(), "--yes"); err == nil || !strings.Contains(errs, "no such key") {
		t.Errorf("an id that nobody knows: %v: %s", err, errs)
	}
}

// Case 29: without triggers nothing is remembered, and every request reads its key.
func TestMissingTriggers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, shortLease, "")
	key, plain := f.mint("bot")
	l := hammer(t, key, plain, f.instances...)
	f.mustPSQL("ALTER TABLE sidecar.deletion DISABLE TRIGGER sidecar_log_delete")
	for _, i := range f.instances {
		eventually(t, "it is said in the log", func() bool { return strings.Contains(i.tail(), "triggers on system_keys are missing") })
	}
	f.mustPSQL("DELETE FROM system_keys WHERE id = '" + key.ID.String() + "'")
	l.wantRefused(t, promptly)
	l.stop()

	key, plain = f.mint("another bot")
	l = hammer(t, key, plain, f.instances...)
	answered, took, body := mustRevoke(t, f.instances[0], key)
	settle()
	l.stop()
	l.wantNoneAfter(t, answered)
	if took > shortLease+promptly {
		t.Errorf("answered after %v: %s", took, body)
	}
	f.mustPSQL("ALTER TABLE sidecar.deletion ENABLE ALWAYS TRIGGER sidecar_log_delete")
	for _, i := range f.instances {
		eventually(t, "they are back", func() bool { return strings.Contains(i.tail(), "in place again") })
	}
}
