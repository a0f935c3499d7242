// SPDX-License-Identifier: Apache-2.0
// Part of sprite-env.

package sprites

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const home = "/home/sprite"

// Files are the files of a sprite. Paths are absolute, or relative to the home directory.
type Files struct {
	sprite *Sprite
	asRoot bool
}

// Files gives the files, handled as the sprite's user.
func (s *Sprite) Files() *Files { return &Files{sprite: s} }

// AsRoot gives the same files, handled as the sprite's root.
func (f *Files) AsRoot() *Files { return &Files{f.sprite, true} }

// FileEntry describes a file or directory.
type FileEntry struct {
	Name     string
	Path     string
	Type     string // file, directory, symlink or other
	Size     int64
	Mode     fs.FileMode
	Modified time.Time
}

// IsDir tells whether it is a directory.
func (e FileEntry) IsDir() bool { return e.Type == "directory" }

func (f *Files) query(path string, more ...string) url.Values {
	query := url.Values{"path": {path}, "workingDir": {home}}
	if f.asRoot {
		query.Set("asRoot", "true")
	}
	for i := 0; i < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	return query
}

func (f *Files) post(ctx context.Context, verb string, body map[string]any) error {
	body["workingDir"] = home
	if f.asRoot {
		body["asRoot"] = true
	}
	return f.sprite.client.call(ctx, "POST", f.sprite.path()+"/fs/"+verb, nil, body, nil)
}

// Read gives the content of a file.
func (f *Files) Read(ctx context.Context, path string) ([]byte, error) {
	return f.sprite.client.read(ctx, f.sprite.path()+"/fs/read", f.query(path))
}

// Open gives the content of a file as a stream; one that breaks off ends with an error.
func (f *Files) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	return f.open(ctx, "/fs/read", path)
}

func (f *Files) open(ctx context.Context, verb, path string) (io.ReadCloser, error) {
	response, err := f.sprite.client.send(ctx, "GET", f.sprite.path()+verb, f.query(path), "", nil)
	if err != nil {
		return nil, err
	}
	return &body{response.Body, f.sprite.client, ctx, f.sprite.path() + verb}, nil
}

type body struct {
	io.ReadCloser
	client *Client
	ctx    context.Context
	path   string
}

func (b *body) Read(into []byte) (int, error) {
	count, err := b.ReadCloser.Read(into)
	if err != nil && err != io.EOF {
		err = b.client.told(b.ctx, err, "GET", b.path)
	}
	return count, err
}

// Write writes a whole file: readers see the old content or the new. The mode is for a file that is not there yet.
func (f *Files) Write(ctx context.Context, path string, data []byte, mode fs.FileMode) error {
	return f.WriteFrom(ctx, path, bytes.NewReader(data), mode)
}

// WriteFrom writes a whole file from a stream.
func (f *Files) WriteFrom(ctx context.Context, path string, from io.Reader, mode fs.FileMode) error {
	query := f.query(path, "mode", fmt.Sprintf("%04o", mode.Perm()))
	response, err := f.sprite.client.send(ctx, "PUT", f.sprite.path()+"/fs/write", query, "application/octet-stream", from)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// List lists a directory; of a file it gives the entry of the file itself.
func (f *Files) List(ctx context.Context, path string) ([]FileEntry, error) {
	var answer struct {
		Entries []struct {
			Name, Path, Type, Mode string
			Size                   int64
			ModTime                time.Time `json:"modTime"`
		}
	}
	err := f.sprite.client.call(ctx, "GET", f.sprite.path()+"/fs/list", f.query(path), nil, &answer)
	if err != nil {
		return nil, err
	}
	entries := make([]FileEntry, len(answer.Entries))
	for i, one := range answer.Entries {
		mode, _ := strconv.ParseUint(one.Mode, 8, 32)
		entries[i] = FileEntry{one.Name, one.Path, one.Type, one.Size, fs.FileMode(mode), one.ModTime}
	}
	return entries, nil
}

// Stat describes one file or directory.
func (f *Files) Stat(ctx context.Context, name string) (FileEntry, error) {
	// A listing describes a file itself, but of a directory what is in it; the parent has its entry.
	name = path.Clean(name)
	if base := path.Base(name); base != "." && base != ".." && base != "/" {
		entries, err := f.List(ctx, path.Dir(name))
		for _, entry := range entries {
			if entry.Name == base {
				return entry, nil
			}
		}
		if err == nil {
			err = &Error{Code: "ENOENT", Status: 404, Path: name, Message: name + ": no such file or directory"}
		}
		return FileEntry{}, err
	}
	if _, err := f.List(ctx, name); err != nil {
		return FileEntry{}, err
	}
	return FileEntry{Name: path.Base(name), Path: path.Join(home, name), Type: "directory", Mode: 0o755}, nil
}

// Exists tells whether there is such a file or directory.
func (f *Files) Exists(ctx context.Context, path string) (bool, error) {
	_, err := f.Stat(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Mkdir makes a directory and those above it; one that is there is no error.
func (f *Files) Mkdir(ctx context.Context, path string) error {
	keep := strings.TrimRight(path, "/") + "/.keep"
	if err := f.Write(ctx, keep, nil, 0o644); err != nil {
		return err
	}
	return f.Remove(ctx, keep)
}

// Remove removes a file or an empty directory.
func (f *Files) Remove(ctx context.Context, path string) error {
	return f.sprite.client.call(ctx, "DELETE", f.sprite.path()+"/fs/delete", f.query(path), nil, nil)
}

// RemoveAll removes a file, or a directory with everything in it.
func (f *Files) RemoveAll(ctx context.Context, path string) error {
	query := f.query(path, "recursive", "true")
	return f.sprite.client.call(ctx, "DELETE", f.sprite.path()+"/fs/delete", query, nil, nil)
}

// Rename renames a file or directory; what has the new name is replaced.
func (f *Files) Rename(ctx context.Context, source, dest string) error {
	return f.post(ctx, "rename", map[string]any{"source": source, "dest": dest})
}

// Copy copies a file, or a directory with everything in it.
func (f *Files) Copy(ctx context.Context, source, dest string) error {
	return f.post(ctx, "copy", map[string]any{"source": source, "dest": dest, "recursive": true})
}

// Chmod changes permissions.
func (f *Files) Chmod(ctx context.Context, path string, mode fs.FileMode) error {
	return f.post(ctx, "chmod", map[string]any{"path": path, "mode": fmt.Sprintf("%04o", mode.Perm())})
}

// Chown changes owner and group, by name or number; "" leaves one as it is. Giving files away needs AsRoot.
func (f *Files) Chown(ctx context.Context, path, user, group string) error {
	body := map[string]any{"path": path}
	if user != "" {
		body["uid"] = user
	}
	if group != "" {
		body["gid"] = group
	}
	return f.post(ctx, "chown", body)
}

// WriteTar unpacks a tar stream below a directory and gives the number of its entries.
func (f *Files) WriteTar(ctx context.Context, path string, from io.Reader) (int, error) {
	response, err := f.sprite.client.send(ctx, "PUT", f.sprite.path()+"/fs/archive", f.query(path), "application/x-tar", from)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var answer struct{ Count int }
	return answer.Count, decode(response.Body, &answer)
}

// OpenTar gives a directory as a tar stream.
func (f *Files) OpenTar(ctx context.Context, path string) (io.ReadCloser, error) {
	return f.open(ctx, "/fs/archive", path)
}

// Upload copies a local directory, with everything in it, to a directory of the sprite in one stream.
func (f *Files) Upload(ctx context.Context, local, path string) (int, error) {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(pack(local, writer)) }()
	defer reader.Close()
	return f.WriteTar(ctx, path, reader)
}

func pack(folder string, into io.Writer) error {
	out := tar.NewWriter(into)
	err := filepath.WalkDir(folder, func(full string, entry fs.DirEntry, err error) error {
		if err != nil || full == folder {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(full); err != nil {
				return err
			}
		} else if !info.Mode().IsRegular() && !info.IsDir() {
			return nil // Sockets, pipes and devices.
		}
		header, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, full)
		if err != nil {
			return err
		}
		header.Name = filepath.ToSlash(name)
		if err = out.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		file, err := os.Open(full)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(out, file)
		return err
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// Download copies a directory of the sprite, with everything in it, to a local directory in one stream. What comes out of
// a sprite is not to be trusted: nothing leads out of the local directory.
func (f *Files) Download(ctx context.Context, path, local string) error {
	stream, err := f.OpenTar(ctx, path)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err = os.MkdirAll(local, 0o755); err != nil {
		return err
	}
	return unpack(stream, local)
}

func unpack(from io.Reader, folder string) error {
	in := tar.NewReader(from)
	for {
		header, err := in.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, from)
			return err
		}
		if err != nil {
			return err
		}
		target, err := place(folder, header.Name)
		if err != nil {
			return err
		}
		mode := fs.FileMode(header.Mode).Perm()
		switch header.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(target, mode|0o700)
		case tar.TypeReg:
			err = unpackFile(in, target, mode)
		case tar.TypeSymlink:
			if !stays(header.Name, header.Linkname) {
				return refused(header.Name)
			}
			_ = os.Remove(target)
			err = os.Symlink(header.Linkname, target)
		case tar.TypeLink:
			var original string
			if original, err = place(folder, header.Linkname); err == nil {
				// A link, at another depth, would lead elsewhere.
				if info, err := os.Lstat(original); err != nil || !info.Mode().IsRegular() {
					return refused(header.Name)
				}
				_ = os.Remove(target)
				err = os.Link(original, target)
			}
		default:
			return refused(header.Name)
		}
		if err != nil {
			return err
		}
	}
}

func unpackFile(from io.Reader, target string, mode fs.FileMode) error {
	_ = os.Remove(target)
	file, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err = io.Copy(file, from); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

// stays says whether a link stays in the folder, whatever other links it leads through: ".." behind a name could mean the
// parent of another link's target, so it comes first or not at all.
func stays(name, link string) bool {
	link = filepath.ToSlash(link)
	depth := strings.Count(path.Clean(filepath.ToSlash(name)), "/")
	up := 0
	for _, part := range strings.Split(link, "/") {
		switch {
		case part == "" || part == ".":
		case part == ".." && up < depth:
			up++
		case part == "..":
			return false
		default:
			depth = 0 // No more ways up.
		}
	}
	return !strings.HasPrefix(link, "/") && !filepath.IsAbs(link)
}

func refused(name string) error {
	return failure("EINVAL", "refused to unpack '%s': it leads out of the folder or is no plain file", name)
}

// place says where an entry goes; the folders above it are made, and none of them may be a link.
func place(root, name string) (string, error) {
	name = filepath.Clean(filepath.FromSlash(name))
	if !filepath.IsLocal(name) {
		return "", refused(name)
	}
	folder := root
	if dir := filepath.Dir(name); dir != "." {
		for _, part := range strings.Split(dir, string(filepath.Separator)) {
			folder = filepath.Join(folder, part)
			info, err := os.Lstat(folder)
			if errors.Is(err, fs.ErrNotExist) {
				err = os.Mkdir(folder, 0o755)
			} else if err == nil && !info.IsDir() {
				err = refused(name)
			}
			if err != nil {
				return "", err
			}
		}
	}
	return filepath.Join(root, name), nil
}
