// An ordinary day of Google's Go library with Cloud Storage: what every step left behind is compared with what it was to be.
//
//	STORAGE_EMULATOR_HOST=http://… day PROJECT BUCKET
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"time"

	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"
)

const mib = 1 << 20

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := day(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("done")
}

func day(ctx context.Context, project, name string) error {
	client, err := storage.NewClient(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	bucket := client.Bucket(name)
	if err := bucket.Create(ctx, project, &storage.BucketAttrs{Location: "EU", VersioningEnabled: true}); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	data := map[string][]byte{"small": []byte("hello"), "dir/nine": filled(9 * mib), "dir/forty": filled(40*mib + 3), "empty": nil}
	for object, content := range data {
		if err := upload(ctx, bucket.Object(object), content); err != nil {
			return fmt.Errorf("upload %s: %w", object, err)
		}
		if err := compare(ctx, bucket.Object(object), content); err != nil {
			return fmt.Errorf("download %s: %w", object, err)
		}
	}
	if err := list(ctx, bucket, &storage.Query{}, "dir/forty dir/nine empty small"); err != nil {
		return err
	}
	if err := list(ctx, bucket, &storage.Query{Delimiter: "/"}, "empty small dir/"); err != nil {
		return err
	}
	if err := list(ctx, bucket, &storage.Query{MatchGlob: "**/nine"}, "dir/nine"); err != nil {
		return err
	}
	if _, err := bucket.Object("copy").CopierFrom(bucket.Object("dir/forty")).Run(ctx); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if err := compare(ctx, bucket.Object("copy"), data["dir/forty"]); err != nil {
		return fmt.Errorf("the copy: %w", err)
	}
	if _, err := bucket.Object("copy").Move(ctx, storage.MoveObjectDestination{Object: "moved"}); err != nil {
		return fmt.Errorf("move: %w", err)
	}
	if _, err := bucket.Object("copy").Attrs(ctx); !errors.Is(err, storage.ErrObjectNotExist) {
		return fmt.Errorf("moved away, and: %v", err)
	}
	if _, err := bucket.Object("joined").ComposerFrom(bucket.Object("small"), bucket.Object("dir/nine")).Run(ctx); err != nil {
		return fmt.Errorf("compose: %w", err)
	}
	if err := compare(ctx, bucket.Object("joined"), append([]byte("hello"), data["dir/nine"]...)); err != nil {
		return fmt.Errorf("the composed object: %w", err)
	}
	if err := more(ctx, client, bucket, project); err != nil {
		return err
	}
	return clear(ctx, bucket)
}

func filled(size int) []byte {
	content := make([]byte, size)
	sum := sha256.Sum256([]byte{byte(size)})
	for at := range content {
		content[at] = sum[at%32] ^ byte(at>>8)
	}
	return content
}

func upload(ctx context.Context, object *storage.ObjectHandle, content []byte) error {
	writer := object.If(storage.Conditions{DoesNotExist: true}).NewWriter(ctx)
	writer.Metadata = map[string]string{"k": "v"}
	writer.CRC32C, writer.SendCRC32C = crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)), true
	if _, err := io.Copy(writer, bytes.NewReader(content)); err != nil {
		return err
	}
	return writer.Close()
}

func compare(ctx context.Context, object *storage.ObjectHandle, content []byte) error {
	reader, err := object.NewReader(ctx)
	if err != nil {
		return err
	}
	defer reader.Close()
	read, err := io.ReadAll(reader)
	if err != nil {
		return err
	}
	if !bytes.Equal(read, content) {
		return fmt.Errorf("%d bytes read are not the %d written", len(read), len(content))
	}
	return nil
}

func list(ctx context.Context, bucket *storage.BucketHandle, query *storage.Query, wanted string) error {
	var names []string
	for objects := bucket.Objects(ctx, query); ; {
		attrs, err := objects.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		names = append(names, attrs.Name+attrs.Prefix)
	}
	if found := strings.Join(names, " "); found != wanted {
		return fmt.Errorf("listed %q instead of %q", found, wanted)
	}
	return nil
}

// more is what programs do less often: metadata, conditions, access control lists, notifications, keys, versions.
func more(ctx context.Context, client *storage.Client, bucket *storage.BucketHandle, project string) error {
	small := bucket.Object("small")
	attrs, err := small.Update(ctx, storage.ObjectAttrsToUpdate{Metadata: map[string]string{"n": "w"}})
	if err != nil || attrs.Metadata["n"] != "w" {
		return fmt.Errorf("update: %v, %w", attrs, err)
	}
	stale := small.If(storage.Conditions{GenerationMatch: attrs.Generation - 1})
	if err := stale.Delete(ctx); err == nil {
		return errors.New("deleted though the generation was another")
	}
	if err := small.ACL().Set(ctx, storage.AllUsers, storage.RoleReader); err != nil {
		return fmt.Errorf("acl: %w", err)
	}
	rules, err := small.ACL().List(ctx)
	if err != nil || !strings.Contains(fmt.Sprint(rules), "allUsers") {
		return fmt.Errorf("acl list: %v, %w", rules, err)
	}
	if notifications, err := bucket.Notifications(ctx); err != nil || len(notifications) != 0 {
		return fmt.Errorf("notifications: %v, %w", notifications, err)
	}
	key, err := client.CreateHMACKey(ctx, project, "a@b.iam.gserviceaccount.com")
	if err != nil || key.Secret == "" {
		return fmt.Errorf("hmac key: %w", err)
	}
	if _, err := client.HMACKeyHandle(project, key.AccessID).Update(ctx, storage.HMACKeyAttrsToUpdate{State: storage.Inactive}); err != nil {
		return fmt.Errorf("hmac key update: %w", err)
	}
	return client.HMACKeyHandle(project, key.AccessID).Delete(ctx)
}

func clear(ctx context.Context, bucket *storage.BucketHandle) error {
	for objects := bucket.Objects(ctx, &storage.Query{Versions: true}); ; {
		attrs, err := objects.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			return fmt.Errorf("list versions: %w", err)
		}
		if err := bucket.Object(attrs.Name).Generation(attrs.Generation).Delete(ctx); err != nil {
			return fmt.Errorf("delete %s: %w", attrs.Name, err)
		}
	}
	if err := bucket.Delete(ctx); err != nil {
		return fmt.Errorf("delete the bucket: %w", err)
	}
	if _, err := bucket.Attrs(ctx); !errors.Is(err, storage.ErrBucketNotExist) {
		return fmt.Errorf("the bucket is deleted, and: %v", err)
	}
	return nil
}
