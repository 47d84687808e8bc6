-- TazPod's defaults for Neovim; ~/.config/nvim/init.lua is read after them. Nothing here fetches, waits or complains.
local o = vim.opt
o.number = true
o.expandtab = true
o.shiftwidth = 2
o.tabstop = 2
o.smartindent = true
o.ignorecase = true
o.smartcase = true
o.termguicolors = true
o.signcolumn = "yes"
o.splitright = true
o.splitbelow = true
o.scrolloff = 4

-- What is edited in a ghost leaves no copy outside of it.
if vim.env.TAZPOD_GHOST then
  o.swapfile = false
  o.backup = false
  o.writebackup = false
  o.undofile = false
  o.shadafile = "NONE"
else
  o.undofile = true
end

vim.g.mapleader = " "
vim.keymap.set("n", "<leader>e", vim.cmd.Explore, { desc = "files" })
vim.keymap.set("n", "<leader>w", vim.cmd.write, { desc = "write" })
vim.keymap.set("n", "<Esc>", vim.cmd.nohlsearch)

-- The languages whose parsers Neovim brings along.
vim.api.nvim_create_autocmd("FileType", {
  callback = function(about)
    pcall(vim.treesitter.start, about.buf)
  end,
})
