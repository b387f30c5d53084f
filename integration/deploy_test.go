package integration_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// object is a mapping of a YAML file.
type object = map[string]any

// documents reads all documents of a file under deploy.
func documents(t *testing.T, name string) (all []object) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var document object
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, document)
	}
}

// at follows keys into nested mappings, and returns nil where there is nothing.
func at(value any, path ...string) any {
	for _, key := range path {
		members, _ := value.(object)
		value = members[key]
	}
	return value
}

// list returns the elements of a list, each of which is a mapping.
func list(value any) (all []object) {
	elements, _ := value.([]any)
	for _, element := range elements {
		member, _ := element.(object)
		all = append(all, member)
	}
	return all
}

// wants compares a value at a path.
func wants(t *testing.T, where string, value any, want any, path ...string) {
	t.Helper()
	if diff := cmp.Diff(want, at(value, path...)); diff != "" {
		t.Errorf("%s: %s (-want +got):\n%s", where, strings.Join(path, "."), diff)
	}
}

// caddyfiles are all configurations under deploy, those in manifests too.
func caddyfiles(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, name := range []string{
		"Caddyfile.systemd", "compose/Caddyfile", "compose/balancer.Caddyfile", "compose/upstream.Caddyfile",
	} {
		content, err := os.ReadFile(filepath.Join("..", "deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(content)
	}
	for _, name := range manifests {
		for _, document := range documents(t, name) {
			if text, ok := at(document, "data", "Caddyfile").(string); ok {
				all[name] = text
			}
		}
	}
	return all
}

var manifests = []string{"kubernetes/sidecar.yaml", "kubernetes/standalone.yaml"}

// TestDeployedConfigurationsAreValid runs `caddy validate` on each, which needs
// neither network nor secrets.
func TestDeployedConfigurationsAreValid(t *testing.T) {
	all := caddyfiles(t)
	if len(all) != 6 {
		t.Fatalf("there are %d configurations", len(all))
	}
	for name, text := range all {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "Caddyfile")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), program(t), "validate", "--config", file)
			cmd.Env = append(os.Environ(), asCaddy+"=1")
			if output, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
			if diff := cmp.Diff(string(caddyfile.Format([]byte(text))), text); diff != "" {
				t.Errorf("it is not formatted (-want +got):\n%s", diff)
			}
			for line := range strings.Lines(text) {
				word := strings.Fields(line)
				if len(word) == 2 && word[0] == "secret" && !strings.HasPrefix(word[1], "{file./run/") {
					t.Errorf("the secret is not from a file: %s", line)
				}
			}
		})
	}
}

// TestManifestsAreHardened looks at what a cluster's admission would.
func TestManifestsAreHardened(t *testing.T) {
	for _, name := range manifests {
		t.Run(name, func(t *testing.T) {
			kinds := map[string]object{}
			for _, document := range documents(t, name) {
				kind, _ := document["kind"].(string)
				kinds[kind] = document
			}
			deployment := kinds["Deployment"]
			wants(t, name, deployment, "apps/v1", "apiVersion")
			pod := at(deployment, "spec", "template", "spec")
			wants(t, name, pod, false, "automountServiceAccountToken")
			wants(t, name, pod, true, "securityContext", "runAsNonRoot")
			wants(t, name, pod, 10001, "securityContext", "runAsUser")
			wants(t, name, pod, "RuntimeDefault", "securityContext", "seccompProfile", "type")
			wants(t, name, deployment, 0, "spec", "strategy", "rollingUpdate", "maxUnavailable")
			labels := at(deployment, "spec", "template", "metadata", "labels")
			wants(t, name, deployment, labels, "spec", "selector", "matchLabels")
			wants(t, name, kinds["Service"], labels, "spec", "selector")
			wants(t, name, kinds["PodDisruptionBudget"], labels, "spec", "selector", "matchLabels")

			containers := slices.Concat(list(at(pod, "initContainers")), list(at(pod, "containers")))
			for _, c := range containers {
				hardened(t, c)
			}
			i := slices.IndexFunc(containers, func(c object) bool { return c["name"] == "caddy" })
			if i < 0 {
				t.Fatal("there is no container caddy")
			}
			mounted(t, pod, containers[i], at(kinds["ConfigMap"], "metadata", "name"))
			probed(t, containers[i])
			wants(t, name, containers[i], []any{
				object{"name": "http", "containerPort": 8080}, object{"name": "metrics", "containerPort": 9180},
			}, "ports")
			wants(t, name, kinds["Service"], []any{object{"name": "http", "port": 80, "targetPort": "http"}}, "spec", "ports")
		})
	}
}

// probed checks that a container starts only with a store that it reaches, given two
// minutes, and goes on without.
func probed(t *testing.T, container object) {
	t.Helper()
	ready := []any{"wget", "-q", "-O", "/dev/null", "http://127.0.0.1:2019/system_keys/ready"}
	wants(t, "caddy", container, ready, "startupProbe", "exec", "command")
	period, _ := at(container, "startupProbe", "periodSeconds").(int)
	failures, _ := at(container, "startupProbe", "failureThreshold").(int)
	if period*failures != 120 {
		t.Errorf("it has %d s to start", period*failures)
	}
	for _, probe := range []string{"readinessProbe", "livenessProbe"} {
		wants(t, "caddy", container, object{"path": "/healthz", "port": "http"}, probe, "httpGet")
	}
}

func hardened(t *testing.T, container object) {
	t.Helper()
	name, _ := container["name"].(string)
	wants(t, name, container, false, "securityContext", "allowPrivilegeEscalation")
	wants(t, name, container, true, "securityContext", "readOnlyRootFilesystem")
	wants(t, name, container, []any{"ALL"}, "securityContext", "capabilities", "drop")
	image, _ := container["image"].(string)
	if _, tag, _ := strings.Cut(image, ":"); tag == "" || tag == "latest" {
		t.Errorf("%s: the image %q has no version", name, image)
	}
	for _, path := range [][]string{
		{"resources", "requests", "cpu"},
		{"resources", "requests", "memory"},
		{"resources", "limits", "memory"},
		{"readinessProbe", "httpGet"},
		{"livenessProbe", "httpGet"},
		{"lifecycle", "preStop"},
	} {
		if at(container, path...) == nil {
			t.Errorf("%s has no %s", name, strings.Join(path, "."))
		}
	}
	variables := list(container["env"])
	if name == "caddy" {
		for _, variable := range tuning {
			i := slices.IndexFunc(variables, func(v object) bool { return cmp.Equal(v, variable) })
			if i < 0 {
				t.Fatalf("%s: %v is not set", name, variable)
			}
			variables = slices.Delete(variables, i, i+1)
		}
		wants(t, name, container, "512Mi", "resources", "limits", "memory")
	}
	if len(variables) > 0 || container["envFrom"] != nil {
		t.Errorf("%s: secrets belong in files, not in the environment", name)
	}
}

// tuning is what the manifests set. GOMEMLIMIT is nine tenths of the limit of memory,
// 512 MiB, as Caddy itself would have it (automemlimit).
var tuning = []object{{"name": "GOGC", "value": "400"}, {"name": "GOMEMLIMIT", "value": "460MiB"}}

// mounted checks that each volume is there, and is what it is taken for.
func mounted(t *testing.T, pod any, container object, configMap any) {
	t.Helper()
	volumes := make(map[any]object)
	for _, volume := range list(at(pod, "volumes")) {
		volumes[volume["name"]] = volume
	}
	where := make(map[any]object)
	for _, mount := range list(container["volumeMounts"]) {
		where[mount["mountPath"]] = volumes[mount["name"]]
	}
	wants(t, "/etc/caddy", where["/etc/caddy"], configMap, "configMap", "name")
	wants(t, "secrets", where["/run/secrets/system-keys"], "system-keys", "secret", "secretName")
	wants(t, "secrets", where["/run/secrets/system-keys"], 0o440, "secret", "defaultMode")
	for _, path := range []string{"/data", "/config"} {
		if at(where[path], "emptyDir") == nil {
			t.Errorf("%s is not writable", path)
		}
	}
}

// TestComposeIsHardened looks at the services, with what they inherit.
func TestComposeIsHardened(t *testing.T) {
	compose := documents(t, "compose.yaml")[0]
	services, _ := compose["services"].(object)
	secrets, _ := compose["secrets"].(object)
	for name := range services {
		service := at(services, name)
		if at(service, "mem_limit") == nil || at(service, "networks") == nil || at(service, "restart") == nil {
			t.Errorf("%s lacks a limit, a network or a restart policy", name)
		}
		if strings.HasPrefix(name, "sidecar-") {
			wants(t, name, service, "512m", "mem_limit")
			wants(t, name, service, object{"GOGC": "400", "GOMEMLIMIT": "460MiB"}, "environment")
		}
		if name != "postgres" { // whose image drops its rights itself
			wants(t, name, service, true, "read_only")
			wants(t, name, service, []any{"ALL"}, "cap_drop")
			if user, _ := at(service, "user").(string); user == "" || strings.HasPrefix(user, "0") {
				t.Errorf("%s runs as %q", name, user)
			}
		}
		used, _ := at(service, "secrets").([]any)
		for _, secret := range used {
			if file, _ := at(secrets, secret.(string), "file").(string); !strings.HasPrefix(file, "./secrets/") {
				t.Errorf("%s: the secret %s is in %q", name, secret, file)
			}
		}
		volumes, _ := at(service, "volumes").([]any)
		for _, volume := range volumes {
			source, _, _ := strings.Cut(volume.(string), ":")
			if _, err := os.Stat(filepath.Join("../deploy", source)); strings.HasPrefix(source, "./") && err != nil {
				t.Error(err)
			}
		}
	}
	for _, name := range []string{"sidecar-1", "sidecar-2", "sidecar-3"} {
		service := at(services, name)
		wants(t, name, service, "10001:10001", "user")
		wants(t, name, service, []any{"no-new-privileges:true"}, "security_opt")
		wants(t, name, service, []any{"database_url", "system_keys_secret"}, "secrets")
		wants(t, name, service, []any{"internal"}, "networks")
		if at(service, "healthcheck", "test") == nil {
			t.Errorf("%s has no health check", name)
		}
	}
	wants(t, "balancer", at(services, "balancer"), []any{"127.0.0.1:8080:8080"}, "ports")
	wants(t, "networks", compose, true, "networks", "internal", "internal")
}

// stage is one of a Dockerfile.
var stage = regexp.MustCompile(`(?m)^FROM \S+ AS (\S+)$`)

// TestComposeBuildsTheCheckout holds that each sidecar is built of what it lies in,
// and that without a target the Dockerfile builds a release.
func TestComposeBuildsTheCheckout(t *testing.T) {
	services, _ := documents(t, "compose.yaml")[0]["services"].(object)
	for _, name := range []string{"sidecar-1", "sidecar-2", "sidecar-3"} {
		wants(t, name, at(services, name), "lumio/caddy-system-keys:checkout", "image")
		wants(t, name, at(services, name), object{"context": "..", "dockerfile": "xcaddy.Dockerfile", "target": "checkout"}, "build")
	}
	content, err := os.ReadFile("../xcaddy.Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	var stages []string
	for _, match := range stage.FindAllStringSubmatch(string(content), -1) {
		stages = append(stages, match[1])
	}
	want := []string{"builder", "build-checkout", "build-release", "runtime", "checkout", "release"}
	if diff := cmp.Diff(want, stages); diff != "" {
		t.Errorf("the stages are (-want +got):\n%s", diff)
	}
	ignored, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{".git", "deploy"} { // where secrets may be
		if !slices.Contains(strings.Split(string(ignored), "\n"), folder) {
			t.Errorf("%s goes into a layer", folder)
		}
	}
}

// directive is a line of a systemd unit.
var directive = regexp.MustCompile(`(?m)^([A-Za-z]+)=(.*)$`)

// TestTheUnitIsHardened looks at what matters, and has systemd-analyze look at all.
func TestTheUnitIsHardened(t *testing.T) {
	const unit = "../deploy/caddy-system-keys.service"
	content, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	set := make(map[string]string)
	for _, line := range directive.FindAllStringSubmatch(string(content), -1) {
		set[line[1]] = line[2]
	}
	for name, want := range map[string]string{
		"Type": "notify", "User": "caddy", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
		"PrivateTmp": "yes", "LimitCORE": "0", "UMask": "0077", "StateDirectoryMode": "0700", "Restart": "on-failure",
		"CapabilityBoundingSet": "CAP_NET_BIND_SERVICE", "LoadCredential": "system_keys:/etc/caddy/secrets/system_keys",
		"MemoryMax": "1G", "Environment": "GOGC=400 GOMEMLIMIT=920MiB", // the last of two
		"ExecReload": "/usr/local/bin/caddy reload --force --config /etc/caddy/Caddyfile",
	} {
		if set[name] != want {
			t.Errorf("%s=%s, want %s", name, set[name], want)
		}
	}
	text := caddyfiles(t)["Caddyfile.systemd"]
	for _, path := range []string{"/var/lib/" + set["StateDirectory"] + "/", "/run/credentials/" + filepath.Base(unit) + "/system_keys"} {
		if !strings.Contains(text, path) {
			t.Errorf("the configuration has nothing under %s", path)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("systemd-analyze is not installed (on Debian: apt-get install systemd)")
	}
	// The program is where `make build` puts it on the target, not here.
	copied := filepath.Join(t.TempDir(), filepath.Base(unit))
	here := strings.ReplaceAll(string(content), "/usr/local/bin/caddy", "/bin/true")
	if err := os.WriteFile(copied, []byte(here), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", copied).CombinedOutput(); err != nil ||
		strings.Contains(string(output), filepath.Base(unit)) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, output)
	}
}
