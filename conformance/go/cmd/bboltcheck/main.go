// Command bboltcheck opens a db file read-only with bbolt, checks its structure, and prints one line per bucket with the
// number of its rows and a hash over them. It exits with 1 when the check finds anything.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: bboltcheck FILE")
		os.Exit(2)
	}
	// The free list is not stored in the file; PreLoadFreelist lets the check tell free pages from lost ones.
	options := &bolt.Options{ReadOnly: true, Timeout: 5 * time.Second, PreLoadFreelist: true}
	db, err := bolt.Open(os.Args[1], 0o600, options)
	if err != nil {
		fmt.Fprintln(os.Stderr, "open:", err)
		os.Exit(1)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		failures := 0
		for problem := range tx.Check() {
			failures++
			fmt.Fprintln(os.Stderr, "check:", problem)
		}
		if failures > 0 {
			return fmt.Errorf("%d errors found", failures)
		}
		return tx.ForEach(func(name []byte, bucket *bolt.Bucket) error {
			rows, hash := 0, sha256.New()
			err := bucket.ForEach(func(key, value []byte) error {
				rows++
				for _, part := range [][]byte{key, value} {
					hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
					hash.Write(part)
				}
				return nil
			})
			fmt.Printf("%s %d %x\n", name, rows, hash.Sum(nil)[:8])
			return err
		})
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
