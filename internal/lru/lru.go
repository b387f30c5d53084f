// Package lru makes bounded caches that drop the entry that was used least recently.
package lru

import lru "github.com/hashicorp/golang-lru/v2"

// Cache is safe for concurrent use.
type Cache[K comparable, V any] = lru.Cache[K, V]

// New makes a cache of a size that is known to be positive: a constant, or a setting that
// was checked when the configuration was read. It panics if the size is not positive.
func New[K comparable, V any](size int) *Cache[K, V] { return NewWithEvict[K, V](size, nil) }

// NewWithEvict is [New] with a function that is called for each entry that is dropped.
func NewWithEvict[K comparable, V any](size int, dropped func(key K, value V)) *Cache[K, V] {
	cache, err := lru.NewWithEvict(size, dropped)
	if err != nil {
		panic(err)
	}
	return cache
}
