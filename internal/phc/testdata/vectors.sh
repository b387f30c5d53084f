#!/bin/sh
# Writes vectors.txt: Argon2id hashes made by the reference implementation's
# command (Debian's package argon2). Each line is: PHC string, TAB, command line.
set -eu

key=lm_sys_02yKpRBQlolH5K6IvPtQRk7JjP74svIcQ0wnM2AKiMfYxueWh34LgK6A3srZOo9IQ2n3e8TASJ2X

make() { # password, salt, options...
	password=$1 salt=$2
	shift 2
	printf '%s\t%s\n' "$(printf %s "$password" | argon2 "$salt" -id -e "$@")" \
		"printf %s '$password' | argon2 '$salt' -id -e $*"
}

{
	# Memory, iterations, lanes.
	make "$key" sixteen-bytes-ab -k 8 -t 1 -p 1
	make "$key" sixteen-bytes-ab -k 9 -t 1 -p 1
	make "$key" sixteen-bytes-ab -k 64 -t 1 -p 1
	make "$key" sixteen-bytes-ab -k 64 -t 10 -p 1
	make "$key" sixteen-bytes-ab -k 64 -t 2 -p 8
	make "$key" sixteen-bytes-ab -k 1000 -t 3 -p 3
	make "$key" sixteen-bytes-ab -k 1024 -t 1 -p 1
	# Lengths of salt and hash, least and greatest, and of base64 groups.
	make "$key" 8-bytes! -k 64 -t 1 -p 1 -l 16
	make "$key" 9-bytes!! -k 64 -t 1 -p 1 -l 17
	make "$key" 10-bytes!! -k 64 -t 1 -p 2 -l 33
	make "$key" sixty-four-bytes-of-salt-sixty-four-bytes-of-salt-sixty-four-by! -k 64 -t 2 -p 1 -l 64
	# Passwords that are not keys of ours.
	make x sixteen-bytes-ab -k 64 -t 1 -p 1
	make 'pässwörd with spaces' sixteen-bytes-ab -k 64 -t 1 -p 1
	# This package's default (OWASP), and RFC 9106's second recommended option.
	make "$key" sixteen-bytes-ab -k 19456 -t 2 -p 1
	make "$key" sixteen-bytes-ab -k 65536 -t 3 -p 4
} >vectors.txt
