/*
 * full_disk.c
 *		A disk that is full while a file exists.
 *
 * No file system of a few megabytes can be mounted without being root.  So
 * this library stands between a server and the C library (LD_PRELOAD): a write
 * that would make a file below the directory FULL_DISK_DIR larger fails with
 * ENOSPC as long as there is a file FULL_DISK_FLAG.  What the server does then
 * is what it does when a disk is full.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* The real function of this name. */
#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

/* Is the file one of those on the disk? */
static bool
is_on_disk(int fd, const char *dir)
{
	char		link[64];
	char		path[PATH_MAX];
	ssize_t		length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return false;
	path[length] = '\0';
	return strncmp(path, dir, strlen(dir)) == 0;
}

/* Would the file become larger, on a disk that is full? */
static bool
is_full(int fd, off_t end)
{
	const char *flag = getenv("FULL_DISK_FLAG");
	const char *dir = getenv("FULL_DISK_DIR");
	int			saved = errno;
	struct stat status;
	bool		result;

	result = flag != NULL && dir != NULL && access(flag, F_OK) == 0 &&
		is_on_disk(fd, dir) && fstat(fd, &status) == 0 && end > status.st_size;
	errno = result ? ENOSPC : saved;
	return result;
}

static off_t
length_of(const struct iovec *parts, int count)
{
	off_t		length = 0;

	for (int i = 0; i < count; i++)
		length += parts[i].iov_len;
	return length;
}

ssize_t
pwrite(int fd, const void *data, size_t length, off_t offset)
{
	return is_full(fd, offset + length) ? -1 : REAL(pwrite) (fd, data, length, offset);
}

ssize_t
pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
	return is_full(fd, offset + length) ? -1 : REAL(pwrite64) (fd, data, length, offset);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
	return is_full(fd, offset + length_of(parts, count)) ? -1 :
		REAL(pwritev) (fd, parts, count, offset);
}

ssize_t
pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
	return is_full(fd, offset + length_of(parts, count)) ? -1 :
		REAL(pwritev64) (fd, parts, count, offset);
}

/* These two return what others leave in errno. */
extern int	posix_fallocate(int fd, off_t offset, off_t length);
extern int	posix_fallocate64(int fd, off64_t offset, off64_t length);

int
posix_fallocate(int fd, off_t offset, off_t length)
{
	return is_full(fd, offset + length) ? ENOSPC : REAL(posix_fallocate) (fd, offset, length);
}

int
posix_fallocate64(int fd, off64_t offset, off64_t length)
{
	return is_full(fd, offset + length) ? ENOSPC : REAL(posix_fallocate64) (fd, offset, length);
}
