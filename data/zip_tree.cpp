// Zips by libzip, every thread with a handle of its own.
#include <zip.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>

#include "data/file_tree.hpp"
#include "fovea/error.hpp"

namespace fovea {
namespace {

struct CloseZip {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct CloseMember {
  void operator()(zip_file_t* member) const { zip_fclose(member); }
};
using Archive = std::unique_ptr<zip_t, CloseZip>;

Archive open_archive(const std::string& path) {
  int code = 0;
  Archive archive(zip_open(path.c_str(), ZIP_RDONLY, &code));
  if (archive) return archive;
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  const std::string reason = zip_error_strerror(&error);
  zip_error_fini(&error);
  throw FormatError(path, text("is no zip that can be read: ", reason));
}

struct Member {
  zip_uint64_t index = 0, bytes = 0, packed = 0;
  std::uint32_t checksum = 0;
  std::uint16_t method = 0, encryption = 0;
};

constexpr zip_uint64_t most_expansion = 1032;  // of deflate

bool leaves_the_archive(const std::string& name) {
  if (name.empty() || name.front() == '/' || name.find('\\') != std::string::npos) return true;
  const std::string parts = '/' + name + '/';
  return parts.find("/../") != std::string::npos;
}

class ZipTree final : public FileTree {
 public:
  ZipTree(const std::string& path, const std::string& marker) : path_(path) {
    Archive archive = open_archive(path);
    std::map<std::string, Member> all = members_of(*archive);
    const std::string top = top_of(all, marker);
    for (auto& [name, member] : all) {
      if (name.compare(0, top.size(), top) != 0) continue;
      const std::string inside = name.substr(top.size());
      const std::size_t slash = inside.rfind('/');
      folders_[slash == std::string::npos ? "" : inside.substr(0, slash)].push_back(
          {inside.substr(slash + 1), member.bytes, member.checksum});
      files_.emplace(inside, member);
    }
    idle_.push_back(std::move(archive));
  }

  std::vector<TreeFile> list(const std::string& folder) const override {
    const auto found = folders_.find(folder);
    return found == folders_.end() ? std::vector<TreeFile>{} : found->second;
  }

  bool contains(const std::string& file) const override { return files_.count(file) > 0; }
  std::string full_name(const std::string& file) const override { return path_ + ':' + file; }
  void check(const std::string& file) const override { (void)checked(file); }

  std::vector<std::byte> read(const std::string& file) const override {
    const Member& member = checked(file);
    const Lease lease(*this);
    const std::unique_ptr<zip_file_t, CloseMember> stream(zip_fopen_index(lease.archive(), member.index, 0));
    if (!stream) refuse(file, zip_strerror(lease.archive()));
    std::vector<std::byte> bytes(member.bytes);
    std::size_t done = 0;
    std::byte beyond{};
    // One byte more than announced: its end is where the checksum is compared.
    while (true) {
      const bool full = done == bytes.size();
      const zip_int64_t got =
          zip_fread(stream.get(), full ? &beyond : bytes.data() + done, full ? 1 : bytes.size() - done);
      if (got < 0) refuse(file, zip_file_strerror(stream.get()));
      if (got == 0) break;
      if (full) refuse(file, text("is longer than the ", bytes.size(), " bytes that it announces"));
      done += static_cast<std::size_t>(got);
    }
    if (done != bytes.size()) refuse(file, text("is cut off: ", done, " of ", bytes.size(), " bytes"));
    return bytes;
  }

 private:
  /// A handle for the time of one read.
  class Lease {
   public:
    explicit Lease(const ZipTree& tree) : tree_(tree) {
      {
        const std::lock_guard lock(tree.mutex_);
        if (!tree.idle_.empty()) {
          archive_ = std::move(tree.idle_.back());
          tree.idle_.pop_back();
        }
      }
      if (!archive_) archive_ = open_archive(tree.path_);
    }
    ~Lease() {
      const std::lock_guard lock(tree_.mutex_);
      tree_.idle_.push_back(std::move(archive_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    zip_t* archive() const { return archive_.get(); }

   private:
    const ZipTree& tree_;
    Archive archive_;
  };

  [[noreturn]] void refuse(const std::string& file, const std::string& why) const {
    throw FormatError(full_name(file), why);
  }

  std::map<std::string, Member> members_of(zip_t& archive) const {
    std::map<std::string, Member> all;
    const zip_int64_t count = zip_get_num_entries(&archive, 0);
    for (zip_int64_t i = 0; i < count; ++i) {
      zip_stat_t status;
      const auto index = static_cast<zip_uint64_t>(i);
      if (zip_stat_index(&archive, index, 0, &status) != 0 || !(status.valid & ZIP_STAT_NAME))
        throw FormatError(path_, text("member ", i, " has no name: ", zip_strerror(&archive)));
      const std::string name = status.name;
      if (leaves_the_archive(name)) refuse(name, "the name of a member leaves the archive");
      if (name.back() == '/' || name.compare(0, 9, "__MACOSX/") == 0) continue;
      const Member member{index,      status.size,        status.comp_size,
                          status.crc, status.comp_method, status.encryption_method};
      if (!all.emplace(name, member).second) refuse(name, "two members have this name");
    }
    return all;
  }

  /// The folder that holds everything, with its slash.
  std::string top_of(const std::map<std::string, Member>& all, const std::string& marker) const {
    std::vector<std::string> tops;
    for (const auto& [name, member] : all) {
      if (name.size() < marker.size() ||
          name.compare(name.size() - marker.size(), marker.size(), marker) != 0)
        continue;
      const std::string top = name.substr(0, name.size() - marker.size());
      if (std::count(top.begin(), top.end(), '/') <= 1 && (top.empty() || top.back() == '/'))
        tops.push_back(top);
    }
    if (tops.empty()) throw FormatError(path_, text("has no ", marker, " on top or in one folder"));
    if (tops.size() > 1)
      throw FormatError(path_, text("has several: ", tops[0], marker, ", ", tops[1], marker));
    return tops[0];
  }

  const Member& checked(const std::string& file) const {
    const auto found = files_.find(file);
    if (found == files_.end()) refuse(file, "is missing");
    const Member& member = found->second;
    if (member.encryption != ZIP_EM_NONE) refuse(file, "is encrypted");
    if (member.method != ZIP_CM_STORE && member.method != ZIP_CM_DEFLATE)
      refuse(file, text("is packed by method ", member.method, "; stored and deflated members are read"));
    if (member.bytes > most_bytes)
      refuse(file, text("announces ", member.bytes, " bytes; at most ", most_bytes, " are read"));
    if (member.bytes / most_expansion > member.packed)
      refuse(file, text("announces ", member.bytes, " bytes in ", member.packed, " packed ones"));
    return member;
  }

  std::string path_;
  std::unordered_map<std::string, Member> files_;
  std::unordered_map<std::string, std::vector<TreeFile>> folders_;
  mutable std::mutex mutex_;
  mutable std::vector<Archive> idle_;
};

}  // namespace

std::shared_ptr<const FileTree> open_zip_tree(const std::string& path, const std::string& marker) {
  return std::make_shared<const ZipTree>(path, marker);
}

}  // namespace fovea
