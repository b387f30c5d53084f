package integration_test

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/lumio-vision/caddy-system-keys/internal/testenv"
)

// TestMetricsOfTheQuickstart plays the story that the quickstart prints, and reads
// its metrics: all are described, count the story, and tell nothing of a key.
func TestMetricsOfTheQuickstart(t *testing.T) {
	c := controlled{site: testenv.FreeAddress(t), control: testenv.FreeAddress(t)}
	cmd := exec.CommandContext(t.Context(), program(t), "system-keys", "quickstart", "--listen", c.site, "--metrics", c.control)
	cmd.Env = append(os.Environ(), asCaddy+"=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	var printed strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan() && !strings.Contains(lines.Text(), "Ctrl-C"); {
		printed.WriteString(lines.Text() + "\n")
	}
	text := printed.String()
	if !strings.Contains(text, "http://"+c.control+"/metrics") {
		t.Errorf("where the metrics are is not said:\n%s", text)
	}
	keys := regexp.MustCompile("lm_sys_[0-9A-Za-z]{76}").FindAllString(text, 2)
	call := regexp.MustCompile(`-X DELETE .* (http://\S+)`).FindStringSubmatch(text)
	if len(keys) != 2 || call == nil {
		t.Fatalf("no story in\n%s", text)
	}
	for _, step := range []struct {
		method, url, key string
		want             int
	}{
		{http.MethodGet, "http://" + c.site + "/hello", keys[1], http.StatusOK},
		{http.MethodDelete, call[1], keys[0], http.StatusOK},
		{http.MethodGet, "http://" + c.site + "/hello", keys[1], http.StatusUnauthorized},
	} {
		if status, _, body := do(t, step.method, step.url, "Bearer "+step.key, nil); status != step.want {
			t.Errorf("%s %s: %d %s", step.method, step.url, status, body)
		}
	}
	families, text := c.scrape(t)
	for _, reason := range []string{"key", "revoked"} {
		result := map[string]string{"key": "allowed", "revoked": "denied"}[reason]
		if n := value(families, "decisions_total", "reason", reason, "result", result); n != 1 {
			t.Errorf("%v decisions for the reason %s", n, reason)
		}
	}
	checkFamilies(t, families, text)
	if strings.Contains(text, "lm_sys_") {
		t.Error("a key is in the metrics")
	}
}
