package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates that nobody but one test trusts.
type Authority struct {
	tb          testing.TB
	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes an authority with a key of its own.
func NewAuthority(tb testing.TB) *Authority {
	tb.Helper()
	a := &Authority{tb: tb, folder: tb.TempDir()}
	der, key := a.sign("authority", func(template *x509.Certificate) {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	var err error
	a.key = key
	a.certificate, err = x509.ParseCertificate(der)
	a.must(err)
	return a
}

// File is where the authority's own certificate is.
func (a *Authority) File() string { return filepath.Join(a.folder, "authority.crt") }

// Issue signs a certificate for servers at 127.0.0.1, and for clients. It returns the files
// of the certificate and of its key.
func (a *Authority) Issue(name string) (certificate, key string) {
	a.tb.Helper()
	a.sign(name, func(template *x509.Certificate) {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		template.KeyUsage = x509.KeyUsageDigitalSignature
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	})
	return filepath.Join(a.folder, name+".crt"), filepath.Join(a.folder, name+".key")
}

// sign makes a key and a certificate of it, and writes both. Without a certificate of the
// authority, the certificate signs itself.
func (a *Authority) sign(name string, complete func(*x509.Certificate)) ([]byte, *ecdsa.PrivateKey) {
	a.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	a.must(err)
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	complete(template)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	a.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	a.must(err)
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		a.must(os.WriteFile(filepath.Join(a.folder, file), pem.EncodeToMemory(block), 0o600))
	}
	return der, key
}

func (a *Authority) must(err error) {
	if err != nil {
		a.tb.Helper()
		a.tb.Fatalf("sign a certificate: %v", err)
	}
}

// MutualTLS makes Redis speak TLS alone on its port, with a certificate of this authority, and
// let nobody in who has none. Its unix socket stays as it is.
func MutualTLS(a *Authority) Option {
	certificate, key := a.Issue("server")
	return func(o *options) {
		Setting("tls-cert-file", certificate)(o)
		Setting("tls-key-file", key)(o)
		Setting("tls-ca-cert-file", a.File())(o)
		Setting("tls-cluster", "yes")(o)
	}
}
