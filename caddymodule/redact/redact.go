// Package redact takes system keys out of logs.
package redact

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/logging"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/lumio-vision/caddy-system-keys/internal/token"
)

func init() {
	caddy.RegisterModule(new(Encoder))
}

// Encoder takes system keys out of a log, and puts `REDACTED` in their place. It runs
// another encoder and cleans the finished entry. So it does not matter where a key stood:
// in a field of any depth, in the message, in the context of a logger or in a stack trace,
// in any case, percent-encoded once or twice, or as part of Basic credentials.
//
// Each log needs it: a site's log does not inherit the format of the default logger.
type Encoder struct {
	zapcore.Encoder `json:"-"`

	// The encoder that encodes the entries. Default: `json`, or `console` if the
	// output is a terminal.
	WrappedRaw json.RawMessage `json:"wrap,omitempty" caddy:"namespace=caddy.logging.encoders inline_key=format"`

	ctx caddy.Context // for an encoder that is made after Provision
}

// CaddyModule returns the Caddy module information.
func (*Encoder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.logging.encoders.redact_system_keys",
		New: func() caddy.Module { return new(Encoder) },
	}
}

// Provision loads the encoder that is wrapped.
func (e *Encoder) Provision(ctx caddy.Context) error {
	e.ctx = ctx
	if e.WrappedRaw == nil {
		wrapped := new(logging.JSONEncoder)
		e.Encoder = wrapped
		return wrapped.Provision(ctx)
	}
	wrapped, err := ctx.LoadModule(e, "WrappedRaw")
	if err != nil {
		return fmt.Errorf("wrap: %w", err)
	}
	e.Encoder = wrapped.(zapcore.Encoder)
	return nil
}

// ConfigureDefaultFormat implements [caddy.ConfiguresFormatterDefault], like Caddy's own
// encoders that wrap others.
func (e *Encoder) ConfigureDefaultFormat(output caddy.WriterOpener) error {
	if e.WrappedRaw != nil {
		if wrapped, ok := e.Encoder.(caddy.ConfiguresFormatterDefault); ok {
			return wrapped.ConfigureDefaultFormat(output)
		}
		return nil
	}
	if !caddy.IsWriterStandardStream(output) || !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	wrapped := new(logging.ConsoleEncoder)
	e.Encoder = wrapped
	return wrapped.Provision(e.ctx)
}

// UnmarshalCaddyfile reads the encoder from a Caddyfile. Syntax:
//
//	redact_system_keys {
//		wrap <encoder>
//	}
func (e *Encoder) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the encoder's name
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		if d.Val() != "wrap" {
			return d.Errf("unrecognized subdirective %q", d.Val())
		}
		if e.WrappedRaw != nil {
			return d.Err("wrap is there twice")
		}
		if !d.NextArg() {
			return d.ArgErr()
		}
		name := d.Val()
		wrapped, err := caddyfile.UnmarshalModule(d, "caddy.logging.encoders."+name)
		if err != nil {
			return err
		}
		encoder, ok := wrapped.(zapcore.Encoder)
		if !ok {
			return d.Errf("%q is not an encoder", name)
		}
		e.WrappedRaw = caddyconfig.JSONModuleObject(encoder, "format", name, nil)
	}
	return nil
}

// Clone implements [zapcore.Encoder]. A logger adds its context to the clone. The context
// is a part of each entry, so it is cleaned with the entry.
func (e *Encoder) Clone() zapcore.Encoder { return &Encoder{Encoder: e.Encoder.Clone()} }

// EncodeEntry implements [zapcore.Encoder].
func (e *Encoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	if clean, changed := token.RedactBytes(line.Bytes()); changed {
		line.Reset()
		line.AppendBytes(clean)
	}
	return line, nil
}

// Interface guards.
var (
	_ caddy.Provisioner                = (*Encoder)(nil)
	_ caddy.ConfiguresFormatterDefault = (*Encoder)(nil)
	_ caddyfile.Unmarshaler            = (*Encoder)(nil)
	_ zapcore.Encoder                  = (*Encoder)(nil)
)
