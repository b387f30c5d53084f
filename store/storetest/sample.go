package storetest

import (
	"crypto/rand"
	"encoding/base64"
	"time"

	"github.com/lumio-vision/caddy-system-keys/store"
)

// epoch is when the sample keys were created.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// newKey returns a key with a random id, and with little else.
func newKey(label string) *store.Key {
	return &store.Key{
		ID:          newID(),
		Label:       label,
		Hash:        newHash(),
		Permissions: []string{},
		CreatedAt:   epoch,
		CreatedBy:   "storetest",
	}
}

// newID returns a random id with the version and variant of a UUIDv7. Its order
// says nothing of its age, which no store may rely on.
func newID() (id store.ID) {
	_, _ = rand.Read(id[:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// newHash returns a PHC string of the right form that belongs to no key.
func newHash() store.Hash {
	var salt [16]byte
	var hash [32]byte
	_, _ = rand.Read(salt[:])
	_, _ = rand.Read(hash[:])
	encode := base64.RawStdEncoding.EncodeToString
	return store.Hash("$argon2id$v=19$m=19456,t=2,p=1$" + encode(salt[:]) + "$" + encode(hash[:]))
}
